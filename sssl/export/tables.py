"""Tables of song labels, a row per song: CSV for spreadsheets, Parquet for programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from schemas import Song, arrow_schema
from schemas.songs import NUMBER_COLUMNS
from sssl.catalog.assign import CatalogConfig
from sssl.export.cells import cell
from sssl.export.songs import (
    OWN_NAMES,
    Exported,
    Labelled,
    Names,
    labelled_parts,
    renamed,
    timeline_as_json,
)
from sssl.store.atomic import replacing
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot

_SHARE = "probability_"
"""What columns of probabilities begin with, before the name of the class."""


def write_csv(store: Store, snapshot: Snapshot, to: str, names: Names = OWN_NAMES) -> Exported:
    """Write a row per song, by id: uri, label, confidence, label in the catalog (or what a listener
    said in its place), whose label it is, a probability per class, valence and arousal where songs
    have them, timeline as JSON.

    No text in it is a formula to a spreadsheet, so ids and labels that start like one have an
    apostrophe in front; Parquet has them as they are.
    """
    schema = _song_schema(snapshot, names, pa.string())
    rows, exported = _song_rows(store, snapshot, schema, names, timeline_as_json)
    cells = _as_cells(rows)
    with replacing(Path(to)) as path:
        pyarrow.csv.write_csv(cells, path)
    return exported


def write_parquet(store: Store, snapshot: Snapshot, to: str, names: Names = OWN_NAMES) -> Exported:
    """Write the same rows with the timeline as a list of structs."""
    entries = arrow_schema(Song).field("timeline").type
    schema = _song_schema(snapshot, names, entries)
    rows, exported = _song_rows(store, snapshot, schema, names, lambda song: song.timeline)
    with replacing(Path(to)) as path:
        pq.write_table(rows, path, compression="zstd")
    return exported


def _song_rows(
    store: Store,
    snapshot: Snapshot,
    schema: pa.Schema,
    names: Names,
    timeline: Callable[[Song], Any],
) -> tuple[pa.Table, Exported]:
    """Return the rows of all songs by id, in memory: some hundred bytes each."""
    exported = Exported()
    tables = [schema.empty_table()]
    for part in labelled_parts(store, snapshot, exported):
        tables.append(_song_table(part, schema, names, timeline))
        exported.songs += len(part)
    rows = pa.concat_tables(tables)
    return rows.sort_by("track_id"), exported


def _song_schema(snapshot: Snapshot, names: Names, timeline: pa.DataType) -> pa.Schema:
    """Return the columns in their order: those of songs as they are declared, others in between."""
    declared = arrow_schema(Song)
    columns = [declared.field("track_id"), pa.field("uri", pa.string())]
    columns += [declared.field(name) for name in ("label", "confidence", "abstained")]
    columns += [pa.field("catalog_label", pa.string()), declared.field("label_source")]
    for label in snapshot.catalog.classes:
        called = names.get(label, label)
        columns.append(pa.field(f"{_SHARE}{called}", pa.float32()))
    columns += [declared.field(name) for name in _numbers(snapshot)]
    columns += [declared.field(name) for name in ("segments", "round", "model_id")]
    columns.append(pa.field("timeline", timeline))
    return pa.schema(columns)


def _numbers(snapshot: Snapshot) -> tuple[str, ...]:
    """Name the columns of valence and arousal, where songs have them."""
    if snapshot.get("catalog").settings(CatalogConfig).task == CatalogConfig.task:
        return ()
    return NUMBER_COLUMNS


def _song_table(
    part: list[Labelled], schema: pa.Schema, names: Names, timeline: Callable[[Song], Any]
) -> pa.Table:
    shares = [name for name in schema.names if name.startswith(_SHARE)]
    rows = []
    for labelled in part:
        song, track, _ = renamed(labelled, names)
        row = {name: getattr(song, name) for name in schema.names if hasattr(song, name)}
        row |= dict(zip(shares, song.probabilities, strict=True))
        row["uri"] = track.uri
        row["catalog_label"] = track.label and names.get(track.label, track.label)
        row["timeline"] = timeline(song)
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=schema)


def _as_cells(rows: pa.Table) -> pa.Table:
    """Return rows whose texts are none that a spreadsheet would run."""
    for place, field in enumerate(rows.schema):
        if field.type == pa.string():
            texts = pa.array(map(cell, rows[field.name].to_pylist()), pa.string())
            rows = rows.set_column(place, field, texts)
    return rows
