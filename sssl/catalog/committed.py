"""A catalog as it was committed: written in parts, and read back by them."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import Catalog, arrow_schema, conform, version_of
from schemas.records import dump
from schemas.summaries import CatalogSummary
from sssl.catalog.assign import CatalogConfig, Dealt
from sssl.catalog.corrections import count_corrections
from sssl.store.folder import Store
from sssl.store.manifest import Made, Manifest, PartFile, check_version

PARTS_PER_FILE = 1024
_ROWS_AT_ONCE = 1 << 16
"""Rows that are Python objects at a time: all of them would not fit into memory."""

_CAME_LATER = ("corrections", "valence", "arousal")


def commit_catalog(
    store: Store, tracks: pa.Table, config: CatalogConfig, of: Manifest | None = None
) -> Manifest:
    """Commit a dealt catalog; one that is what is left `of` another has its date and its cost."""
    return commit_pieces(store, partial(_by_file, tracks), config, of)


def commit_pieces(
    store: Store,
    pieces: Callable[[], Iterable[pa.Table]],
    config: CatalogConfig,
    of: Manifest | None = None,
) -> Manifest:
    """Commit a dealt catalog that comes in pieces, one for each of its files in their order. They
    are gone through twice, since files lie where the digest of all rows says."""
    # Whom we trust, and who tells us of files, decides no row.
    config = replace(config, allow_uri=(), inventory=())
    digest, summary = _survey(pieces(), config)
    planned = Manifest(
        table="catalog",
        generation=digest[:12],
        stage="segment",
        round=None,
        config=dump(config),
        parents=(),
        files={},
        summary={},
        created_at="" if of is None else of.created_at,
    )

    def make(planned: Manifest) -> Made:
        written = _write_files(store, planned.generation, pieces(), summary.parts)
        files = dict(written)
        if of is None:
            return Made(files, dump(summary))
        costing = replace(summary, cpu_s=of.cpu_s)
        return Made(files, dump(costing), knows_cpu_s=True)

    return store.commit_once(planned, make)


def _by_file(tracks: pa.Table) -> Iterator[pa.Table]:
    """Yield the rows of each file of a catalog."""
    parts = tracks["part"].to_numpy()
    firsts = np.arange(0, parts[-1] + 1, PARTS_PER_FILE)
    starts = np.searchsorted(parts, firsts)
    bounds = [*starts.tolist(), len(tracks)]
    for start, end in pairwise(bounds):
        yield tracks.slice(start, end - start)


def _write_files(
    store: Store, generation: str, pieces: Iterable[pa.Table], parts: int
) -> Iterator[tuple[int, PartFile]]:
    """Write a catalog: one row group per part, so that a worker reads just its own. A part whose
    tracks are all gone stays, as an empty row group, unless no other comes after it."""
    firsts = range(0, parts, PARTS_PER_FILE)
    for first, rows in zip(firsts, pieces, strict=False):
        end = min(first + PARTS_PER_FILE, parts)
        of_file = np.arange(first, end + 1)
        of_rows = rows["part"].to_numpy()
        starts = np.searchsorted(of_rows, of_file)
        file = _write_file(store, generation, first, rows, starts)
        yield first // PARTS_PER_FILE, file


def _survey(pieces: Iterable[pa.Table], config: CatalogConfig) -> tuple[str, CatalogSummary]:
    """Return the digest of a catalog's rows and its config, and what is counted of them."""
    digest = _Digest()
    summary = CatalogSummary(classes=config.classes, folds=config.folds)
    labelled = Counter[str]()
    corrected = Counter[str]()
    for tracks in pieces:
        digest.add(tracks)
        labelled += class_counts(tracks)
        of_tracks, of_passages = count_corrections(tracks)
        corrected.update(tracks=of_tracks, passages=of_passages)
        if len(tracks):
            last = tracks["part"][-1]  # rows are sorted by parts
            seen = summary.tracks + len(tracks)
            summary = replace(summary, parts=last.as_py() + 1, tracks=seen)
    summary = replace(
        summary,
        labelled=labelled,
        corrected_tracks=corrected["tracks"],
        corrected_passages=corrected["passages"],
    )
    return digest.end_with(config), summary


def rows_of(tracks: pa.Table) -> list[Catalog]:
    """Return a catalog, or a piece of one, as rows."""
    return [Catalog(**record) for record in tracks.to_pylist()]


def read_part(store: Store, catalog: Manifest, part: int) -> list[Catalog]:
    """Read the catalog rows of one part."""
    file = catalog.files[part // PARTS_PER_FILE]
    with store.open_file(file.path) as source:
        size = source.seek(0, io.SEEK_END)
        parquet = pq.ParquetFile(source, metadata=_footer(store, file.path, size))
        check_version(version_of(parquet.schema_arrow), file.path)
        group = conform(parquet.read_row_group(part % PARTS_PER_FILE))
    return rows_of(group)


@lru_cache(maxsize=64)
def _footer(store: Store, path: str, size: int) -> pq.FileMetaData:
    """Read the footer of a catalog's file once, or once more where another file of another size, in
    bytes, has taken its place: it lists all parts, and reading it takes longer than reading one."""
    del size  # part of what the footer is kept under
    with store.open_file(path) as source:
        return pq.read_metadata(source)


def read_labelled(
    store: Store, catalog: Manifest, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read the labelled tracks, or some columns of them; of row groups (parts) that have none only
    the statistics are read."""
    tables = []
    for _, file in sorted(catalog.files.items()):
        with store.open_file(file.path) as source:
            parquet = pq.ParquetFile(source, pre_buffer=True)
            check_version(version_of(parquet.schema_arrow), file.path)
            tables.append(_labelled_of(parquet, columns))
    return pa.concat_tables(tables)


def _labelled_of(parquet: pq.ParquetFile, columns: Sequence[str] | None) -> pa.Table:
    # By hand, as a scan with a filter takes ten times as long where a row group has so few rows.
    wanted = parquet.schema_arrow.names if columns is None else columns
    there = {*wanted, "split"} & set(parquet.schema_arrow.names)
    rows = parquet.read_row_groups(_with_split(parquet.metadata), sorted(there))
    return conform(rows.filter(rows["split"].is_valid()), columns)


def _with_split(footer: pq.FileMetaData) -> list[int]:
    """Return the row groups that may have rows with a split, by their statistics."""
    if not footer.num_row_groups:
        return []
    split = _column_number(footer, "split")
    found = []
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        statistics = group.column(split).statistics
        if statistics is None or statistics.null_count < group.num_rows:
            found.append(number)
    return found


def _column_number(footer: pq.FileMetaData, name: str) -> int:
    # `footer.schema` has the names, too, but holds the footer in a circle, 11 MB of a file with
    # 1024 parts, until Python looks for circles.
    group = footer.row_group(0)
    columns = map(group.column, range(group.num_columns))
    return [column.path_in_schema for column in columns].index(name)


def read_dealt(store: Store, catalog: Manifest, columns: Sequence[str] | None = None) -> Dealt:
    """Read a committed catalog, or some columns of it, with the config it was dealt by."""
    wanted = None if columns is None else list(columns)
    return Dealt(store.read_table(catalog, wanted), catalog.settings(CatalogConfig))


def iter_dealt(store: Store, catalog: Manifest, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read some columns of a committed catalog, one file with many parts after the other.

    Of a catalog without any, corrections are not read: they are half of what reading takes.
    """
    has_corrections = bool(catalog.about(CatalogSummary).corrected_tracks)
    read = [name for name in columns if has_corrections or name != "corrections"]
    for _, rows in store.iter_parts(catalog, read):
        if len(read) < len(columns):
            nothing = pa.nulls(len(rows), arrow_schema(Catalog).field("corrections").type)
            rows = rows.append_column("corrections", nothing)
        yield rows.select(columns)


def class_counts(tracks: pa.Table) -> Counter[str]:
    """Count the labelled tracks of each class."""
    counts = pc.value_counts(tracks["label"].drop_null()).to_pylist()
    return Counter({count["values"]: count["counts"] for count in counts})


class _Digest:
    """SHA-256 of rows and a config as JSON, many rows at a time: all of it would not fit into
    memory."""

    def __init__(self) -> None:
        self._found = hashlib.sha256(b"[[")
        self._comma = b""

    def add(self, tracks: pa.Table) -> None:
        for batch in tracks.to_batches(max_chunksize=_ROWS_AT_ONCE):
            if len(batch):
                self._found.update(self._comma + _json(_records(batch))[1:-1])
                self._comma = b","

    def end_with(self, config: CatalogConfig) -> str:
        """Add the config and return the digest; no rows can be added after it."""
        self._found.update(b"]," + _json(dump(config)) + b"]")
        return self._found.hexdigest()


def _records(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as records; without what came later where there is none, so that a catalog
    without any has the name that it always had."""
    some = []
    for name in _CAME_LATER:
        if batch[name].null_count == len(batch):
            batch = batch.drop_columns(name)
        else:
            some.append(name)
    records = batch.to_pylist()
    for record in records:
        for name in some:
            if record[name] is None:
                del record[name]
    return list(records)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _write_file(
    store: Store, generation: str, first: int, tracks: pa.Table, starts: Any
) -> PartFile:
    """Write the parts from `first` on as row groups; part n has the rows from starts[n] to below
    starts[n + 1]."""
    buffer = io.BytesIO()
    schema = arrow_schema(Catalog)
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for start, end in pairwise(starts.tolist()):
            group = tracks.slice(start, end - start).cast(schema).combine_chunks()
            writer.write_table(group, row_group_size=max(1, len(group)))
    path = f"catalog/{generation}/part-{first // PARTS_PER_FILE:05d}.parquet"
    return store.write_file(path, buffer.getvalue(), int(starts[-1] - starts[0]))
