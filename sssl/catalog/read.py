"""The user's catalog: read, checked, dealt and committed; in columns, since it may have millions of rows."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Container, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from schemas import Catalog, arrow_schema, conform, version_of
from schemas.records import dump
from schemas.summaries import CatalogSummary
from sssl.catalog.assign import CatalogConfig, Dealt, deal, whole
from sssl.catalog.fingerprints import with_fingerprints
from sssl.errors import CatalogError
from sssl.store.folder import Store
from sssl.store.manifest import Made, Manifest, PartFile, check_version
from sssl.urls import file_system, opened

LOGGER = logging.getLogger(__name__)
PARTS_PER_FILE = 1024
AUDIO_SUFFIXES = (
    ".aac",
    ".aif",
    ".aiff",
    ".alac",
    ".flac",
    ".m4a",
    ".m4b",
    ".mp2",
    ".mp3",
    ".mp4",
    ".oga",
    ".ogg",
    ".opus",
    ".wav",
    ".wma",
)
_COLUMNS = ("track_id", "uri", "label", "split", "group_id", "expected_s", "locked")
_ROWS_AT_ONCE = 1 << 20
_NOTHING_DEALT = Dealt()


def read_catalog(
    catalog: str,
    labels: str | None,
    config: CatalogConfig,
    before: Dealt = _NOTHING_DEALT,
    leave_out: Container[str] = frozenset(),
) -> pa.Table:
    """Read a CSV, a Parquet file, a folder or a glob of audio as a catalog, sorted by part and id.

    Args:
        catalog: path or fsspec URL of a table with `track_id` and `uri` (and optional `label`, `split`, `group_id`,
            `expected_s`, `locked`), or a folder or glob of audio files, whose ids are their paths below the folder.
        labels: CSV with `track_id` and any of the optional columns, joined by id.
        config: how to read and deal.
        before: what an earlier run dealt, whose places are kept.
        leave_out: SHA-256 of ids that must not come back.

    Raises:
        CatalogError: a column is missing, an id is doubled, a class is unknown, or there is no track at all.
    """
    return with_fingerprints(deal(read_tracks(catalog, labels, config, leave_out), config, before))


def read_tracks(
    catalog: str, labels: str | None, config: CatalogConfig, leave_out: Container[str] = frozenset()
) -> pa.Table:
    """Read a catalog as `read_catalog` does, without asking the storage for any file; nothing is dealt yet.

    Raises:
        CatalogError: as there.
    """
    table = _read_music(catalog)
    if labels is not None:
        table = _join_labels(table, _read_table(labels), labels)
    _check_values(table, catalog, "label", config.classes, "give the class set by --classes")
    _check_values(table, catalog, "split", ("train", "test"), "leave the cell empty for train")
    _check_groups(table, catalog)
    tracks = _typed(table)
    if leave_out:
        tracks = tracks.filter(pa.array([_hash(track_id) not in leave_out for track_id in _texts(tracks["track_id"])]))
    if not len(tracks):
        raise CatalogError(f"{catalog}: every track was taken down")
    return tracks


def commit_catalog(store: Store, tracks: pa.Table, config: CatalogConfig, of: Manifest | None = None) -> Manifest:
    """Commit a dealt catalog; one that is what is left `of` another has its date and its cost."""
    planned = Manifest(
        table="catalog",
        generation=_digest(tracks, config)[:12],
        stage="segment",
        round=None,
        config=dump(config),
        parents=(),
        files={},
        summary={},
        created_at="" if of is None else of.created_at,
    )

    def make(planned: Manifest) -> Made:
        summary = _summary(tracks, config, None if of is None else of.cpu_s)
        return Made(_write_files(store, planned.generation, tracks), dump(summary), knows_cpu_s=of is not None)

    return store.commit_once(planned, make)


def _write_files(store: Store, generation: str, tracks: pa.Table) -> dict[int, PartFile]:
    """Write a catalog: a row group a part, so that a worker reads just its own."""
    parts = _parts(tracks)
    starts = np.searchsorted(tracks["part"].to_numpy(), np.arange(parts + 1))
    return {
        first // PARTS_PER_FILE: _write_file(store, generation, first, tracks, starts[first:][: PARTS_PER_FILE + 1])
        for first in range(0, parts, PARTS_PER_FILE)
    }


def _summary(tracks: pa.Table, config: CatalogConfig, cpu_s: float | None) -> CatalogSummary:
    return CatalogSummary(
        cpu_s=cpu_s,
        parts=_parts(tracks),
        tracks=len(tracks),
        classes=config.classes,
        folds=config.folds,
        labelled=class_counts(tracks),
    )


def _parts(tracks: pa.Table) -> int:
    """Count the parts of a catalog sorted by them; one whose tracks are all gone stays, as an empty row group."""
    return int(tracks["part"][-1].as_py()) + 1


def rows_of(tracks: pa.Table) -> list[Catalog]:
    """Return a catalog, or a piece of one, as rows."""
    return [Catalog(**record) for record in tracks.to_pylist()]


def read_part(store: Store, catalog: Manifest, part: int) -> list[Catalog]:
    """Read the catalog rows of one part."""
    file = catalog.files[part // PARTS_PER_FILE]
    with store.open_file(file.path) as source:
        parquet = pq.ParquetFile(source)
        check_version(version_of(parquet.schema_arrow), file.path)
        group = conform(parquet.read_row_group(part % PARTS_PER_FILE))
    return rows_of(group)


def read_labelled(store: Store, catalog: Manifest) -> pa.Table:
    """Read the labelled tracks; of row groups (parts) that have none only the statistics are read."""
    tables = []
    for _, file in sorted(catalog.files.items()):
        with store.open_file(file.path) as source:
            rows = pq.read_table(source, filters=pc.field("split").is_valid())
        check_version(version_of(rows.schema), file.path)
        tables.append(conform(rows))
    return pa.concat_tables(tables)


def read_dealt(store: Store, catalog: Manifest, columns: list[str] | None = None) -> Dealt:
    """Read a committed catalog, or some columns of it, with the config it was dealt by."""
    return Dealt(store.read_table(catalog, columns), catalog.settings(CatalogConfig))


def class_counts(tracks: pa.Table) -> Counter[str]:
    """Count the labelled tracks of each class."""
    counts = pc.value_counts(tracks["label"].drop_null()).to_pylist()
    return Counter({count["values"]: count["counts"] for count in counts})


def _digest(tracks: pa.Table, config: CatalogConfig) -> str:
    """SHA-256 of the rows and the config as JSON, row by row: all of it would not fit into memory."""
    found = hashlib.sha256(b"[[")
    for number, record in enumerate(_records(tracks)):
        found.update(b"," * (number > 0) + _json(record))
    found.update(b"]," + _json(dump(config)) + b"]")
    return found.hexdigest()


def _records(tracks: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in tracks.to_batches(max_chunksize=_ROWS_AT_ONCE // 16):
        yield from batch.to_pylist()


def _texts(column: pa.ChunkedArray) -> Iterator[str]:
    for start in range(0, len(column), _ROWS_AT_ONCE // 16):
        yield from column.slice(start, _ROWS_AT_ONCE // 16).to_pylist()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _write_file(store: Store, generation: str, first: int, tracks: pa.Table, starts: Any) -> PartFile:
    """Write the parts from `first` on as row groups; part n has the rows from starts[n] to below starts[n + 1]."""
    buffer, schema = io.BytesIO(), arrow_schema(Catalog)
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        for start, end in pairwise(starts.tolist()):
            group = tracks.slice(start, end - start).cast(schema).combine_chunks()
            writer.write_table(group, row_group_size=max(1, len(group)))
    path = f"catalog/{generation}/part-{first // PARTS_PER_FILE:05d}.parquet"
    return store.write_file(path, buffer.getvalue(), int(starts[-1] - starts[0]))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_unlabelled(catalog: str) -> list[Catalog]:
    """Read ids and URIs of a catalog as `read_tracks` does, whatever its labels and other columns say.

    Raises:
        CatalogError: a column is missing, an id is doubled, or there is no track at all.
    """
    music = _read_music(catalog)
    return list(map(new_track, music["track_id"].to_pylist(), music["uri"].to_pylist()))


def new_track(track_id: str, uri: str) -> Catalog:
    """Return the row of a track that is in no catalog of ours."""
    return Catalog(track_id, uri, None, None, track_id, 0, None, False, 0, None)


def _read_music(catalog: str) -> pa.Table:
    """Read a table of tracks, or list a folder or a glob as one; each track has an id of its own and a URI."""
    table = _read_table(catalog) if catalog.endswith((".csv", ".parquet")) else _list_audio(catalog)
    _check_ids(table, catalog)
    return table


def _read_table(url: str) -> pa.Table:
    """Read a CSV or Parquet file; what is text with us is text."""
    try:
        with opened(url) as file:
            table = pq.read_table(file) if url.endswith(".parquet") else _read_csv(file)
        for at, name in enumerate(table.column_names):
            if name in _COLUMNS and name not in ("expected_s", "locked"):
                table = table.set_column(at, name, table[at].cast(pa.string()))
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise CatalogError(f"cannot read {url}: {error}") from error
    pa.default_memory_pool().release_unused()  # a third of the table's size is left from decoding it
    doubled = [name for name in _COLUMNS if table.column_names.count(name) > 1]
    if doubled:
        raise CatalogError(f"{url}: column {doubled[0]} appears more than once")
    return table


def _read_csv(file: Any) -> pa.Table:
    # Ids like 007 are text; an empty cell is a missing value, "NA" or "None" may be a label.
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(_COLUMNS, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    return pa.csv.read_csv(file, parse_options=pa.csv.ParseOptions(newlines_in_values=True), convert_options=convert)


def _list_audio(url: str) -> pa.Table:
    fs, path = file_system(url)
    is_glob = any(sign in path for sign in "*?[") and not fs.isdir(path)
    found = fs.glob(path) if is_glob else fs.find(path)
    files = sorted(file for file in found if file.lower().endswith(AUDIO_SUFFIXES))
    base = re.split(r"[*?[]", path)[0].rsplit("/", 1)[0] if is_glob else path.rstrip("/")
    files = [file for file in files if "/." not in file[len(base) :]]  # hidden ones, left by a kill or a file manager
    ids, uris = [file[len(base) + 1 :] for file in files], [fs.unstrip_protocol(file) for file in files]
    return pa.table({"track_id": pa.array(ids, pa.string()), "uri": pa.array(uris, pa.string())})


def _join_labels(table: pa.Table, labels: pa.Table, url: str) -> pa.Table:
    """Put what `labels` say in the place of what the catalog says."""
    if "track_id" not in labels.column_names:
        raise CatalogError(f"{url}: column track_id is missing; it has {', '.join(labels.column_names)}")
    _check_unique(labels["track_id"], url)
    places = _places(whole(table["track_id"]), whole(labels["track_id"]), url)
    label_of = pc.index_in(pa.array(np.arange(len(table)), places.type), places)
    for name in [name for name in labels.column_names if name != "track_id"]:
        given = whole(labels[name]).take(label_of)
        if name in table.column_names:
            given = pc.coalesce(given, whole(table[name]).cast(given.type))
            table = table.drop_columns(name)
        table = table.append_column(name, given)
    return table


def _places(track_ids: pa.Array, given: pa.Array, url: str) -> pa.Array:
    """Return the row of the track that each id of a labels file means: by the whole id, else without its suffix."""
    places = pc.index_in(given, track_ids)
    if places.null_count:
        stems, others = pc.replace_substring_regex(track_ids, r"\.[^.]*$", ""), given.filter(places.is_null())
        _check_one_each(stems.filter(pc.is_in(stems, others)), track_ids, stems, url)
        places = pc.coalesce(places, pc.index_in(given, stems))
    fits = places.is_valid()
    if places.null_count == len(places):
        example, expected = pc.min(given).as_py() or "", pc.min(track_ids).as_py()
        raise CatalogError(f"{url}: no track_id fits a file, e.g. {example!r}; ids are paths like {expected!r}")
    if places.null_count:
        LOGGER.warning("%s: %d of %d ids are not in the catalog", url, places.null_count, len(places))
    twice = _first_doubled(places.filter(fits))
    if twice is not None:
        name = track_ids[twice].as_py()
        raise CatalogError(f"{url}: track {name!r} is named more than once, with and without its suffix")
    return places


def _check_one_each(found: pa.Array, track_ids: pa.Array, stems: pa.Array, url: str) -> None:
    doubtful = _first_doubled(found)
    if doubtful is not None:
        names = track_ids.filter(pc.equal(stems, doubtful)).to_pylist()
        raise CatalogError(f"{url}: {doubtful!r} may be {' or '.join(sorted(names))}: give the whole name")


def _first_doubled(values: pa.Array | pa.ChunkedArray) -> Any:
    """Return the least value that comes more than once, None if there is none; by sorting, since sets of millions of
    texts take twice the memory of the texts."""
    texts = whole(values) if isinstance(values, pa.ChunkedArray) else values
    order = pc.array_sort_indices(texts)
    for start in range(0, len(order), _ROWS_AT_ONCE):
        ordered = texts.take(order.slice(start, _ROWS_AT_ONCE + 1))  # one more: the next piece's first
        at = pc.index(pc.equal(ordered[1:], ordered[:-1]), True).as_py()
        if at >= 0:
            return ordered[at].as_py()
    return None


def _check_unique(track_ids: pa.ChunkedArray, url: str) -> None:
    doubled = _first_doubled(track_ids)
    if doubled is not None:
        times = pc.sum(pc.equal(track_ids, doubled)).as_py()
        raise CatalogError(f"{url}: track_id {doubled!r} appears more than once ({times} times)")


def _check_ids(table: pa.Table, url: str) -> None:
    for name in ("track_id", "uri"):
        if name not in table.column_names:
            has = ", ".join(table.column_names) or "no columns"
            raise CatalogError(f"{url}: column {name} is missing; it has {has}")
        if table[name].null_count:
            raise CatalogError(f"{url}: row {pc.index(table[name].is_null(), True).as_py() + 1} has no {name}")
    if not len(table):
        raise CatalogError(f"{url}: no tracks; expected a table with rows, or a folder or glob with audio files")
    _check_unique(table["track_id"], url)


def _check_groups(table: pa.Table, url: str) -> None:
    if not {"split", "group_id"} <= set(table.column_names):
        return
    labelled = table.filter(table["label"].is_valid()) if "label" in table.column_names else table.slice(0, 0)
    sides = pa.table({"group": labelled["group_id"], "split": pc.fill_null(labelled["split"], "train")})
    doubled = _first_doubled(sides.group_by(["group", "split"]).aggregate([])["group"].drop_null())
    if doubled is not None:
        raise CatalogError(f"{url}: group {doubled!r} has tracks in train and in test: give it one split")


def _check_values(table: pa.Table, url: str, name: str, allowed: tuple[str, ...], hint: str) -> None:
    if name not in table.column_names:
        return
    wrong = pc.invert(pc.is_in(table[name], pa.array([*allowed, None], pa.string())))
    first = pc.index(wrong, True).as_py()
    if first >= 0:
        track_id, value = table["track_id"][first].as_py(), table[name][first].as_py()
        raise CatalogError(
            f"{url}: track {track_id!r} has {name} {value!r}, expected one of {', '.join(allowed)}: {hint}"
        )


def _typed(table: pa.Table) -> pa.Table:
    """Return a table that was checked in the columns of a catalog."""
    count = len(table)
    given = {name: table[name] for name in _COLUMNS if name in table.column_names}
    group_id = pc.coalesce(given["group_id"], given["track_id"]) if "group_id" in given else given["track_id"]
    zeros, nothing = pa.array(np.zeros(count, np.int32)), pa.nulls(count, pa.string())
    made = {
        "group_id": group_id,
        "expected_s": _seconds(given.get("expected_s", nothing), given["track_id"]),
        "locked": _flags(given.get("locked", nothing), given["track_id"]),
        "fold": zeros,
        "part": zeros,
        "source_fingerprint": nothing,
    }
    return pa.table({"label": nothing, "split": nothing} | given | made, schema=arrow_schema(Catalog))


def _seconds(given: pa.ChunkedArray, track_ids: pa.ChunkedArray) -> pa.ChunkedArray:
    text = pc.utf8_trim_whitespace(given) if pa.types.is_string(given.type) else given
    try:
        seconds = pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        seconds = pa.array([_number(*pair) for pair in zip(given.to_pylist(), track_ids.to_pylist(), strict=True)])
    # Single precision, as the table will give it back.
    return pc.if_else(pc.is_nan(seconds), None, seconds).cast(pa.float32(), safe=False)


def _number(value: Any, track_id: str) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        raise CatalogError(f"track {track_id!r} has expected_s {value!r}, expected seconds as a number") from None


def _flags(given: pa.ChunkedArray, track_ids: pa.ChunkedArray) -> pa.ChunkedArray:
    text = given.cast(pa.string())
    meaning = {value: str(value).strip().lower() for value in text.unique().to_pylist() if value is not None}
    for value, word in meaning.items():
        if word not in ("true", "false", "1", "0", "yes", "no"):
            track_id = track_ids[pc.index(text, value).as_py()].as_py()
            raise CatalogError(f"track {track_id!r} has locked {value!r}, expected true or false")
    return pc.is_in(text, pa.array([v for v, word in meaning.items() if word in ("true", "1", "yes")], pa.string()))
