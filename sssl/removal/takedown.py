"""Take tracks out of an output folder: new generations without them, then away with everything
else."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial, reduce
from operator import add
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import SCHEMA_VERSION, TABLES, Catalog, Ledger, arrow_schema, columns, to_arrow
from schemas.records import dump
from schemas.summaries import LedgerSummary, Summary, of_today
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.committed import PARTS_PER_FILE, commit_pieces, rows_of
from sssl.catalog.corrections import FILE_NAME, without_tracks
from sssl.catalog.counts import copy_counts
from sssl.catalog.ledger import SUMMED, summarize_whole_ledger
from sssl.embedding.table import summarize_embeddings
from sssl.errors import StoreError
from sssl.labels.comparison import summarize_both
from sssl.labels.relabel import summarize_labels
from sssl.model.scores import summarize_scores
from sssl.songs.song import summarize_songs
from sssl.store.atomic import alone
from sssl.store.folder import Store
from sssl.store.layout import BEFORE_ROUNDS, compacted_path
from sssl.store.manifest import (
    TAKEN_DOWN,
    Compacted,
    Made,
    Manifest,
    PartFile,
    Snapshot,
    generation_name,
    loaded,
    parts_digest,
)
from sssl.store.parquet import compacted_bytes, with_changed
from sssl.store.removals import spellings
from sssl.urls import local_path

_WORKERS = 32
_BYTES_AT_ONCE = 512 << 20
_COMPACTORS = 4  # each with a file of 64 MB, several times that in memory
_BY_TRACK = {
    name
    for name, table in TABLES.items()
    if any(column.name == "track_id" for column in columns(table))
}


def without(store: Store, snapshot: Snapshot, track_ids: Collection[str]) -> Snapshot:
    """Commit every table of a snapshot again without some tracks; parts that have none of them keep
    their files.

    What was judged and fitted stays as it was: verdicts, mixtures, the song classifier and its
    threshold.

    Raises:
        StoreError: no track would be left.
    """
    catalog = snapshot.get("catalog")
    gone = pa.array(sorted(set(track_ids)), pa.string())
    with _Spool() as left:
        leaving, in_ledger = _part_with(store, snapshot, gone, left)
        if not leaving:
            return snapshot
        if not in_ledger.tracks:
            raise StoreError("no track would be left: delete the output folder instead")
        config = catalog.settings(CatalogConfig)
        made = commit_pieces(store, left.pieces, config, catalog)
    rewriting = _Rewriting(
        store,
        gone=leaving,
        parts={track.part for track in leaving},
        classes=snapshot.catalog.classes,
        in_ledger=in_ledger,
        made={catalog.ref: made},
    )
    waiting = [manifest for manifest in snapshot.manifests if manifest.table != "catalog"]
    while waiting:
        ready = next(filter(rewriting.has_parents, waiting))
        waiting.remove(ready)
        rewriting.commit(ready)
    return Snapshot(tuple(rewriting.made[old.ref] for old in snapshot.manifests))


def _part_with(
    store: Store, snapshot: Snapshot, gone: pa.Array, left: _Spool
) -> tuple[list[Catalog], LedgerSummary]:
    """Put the rows of a catalog without some tracks into a spool, file by file; return those of the
    tracks that go, and what the ledger says of the others."""
    leaving = []
    in_ledger = LedgerSummary()
    ledger = _Ledger(store, snapshot.get("ledger"))
    for number, rows in store.iter_parts(snapshot.get("catalog")):
        is_gone = pc.is_in(rows["track_id"], gone)
        leaving += rows_of(rows.filter(is_gone))
        stay = rows.filter(pc.invert(is_gone))
        left.add(stay)
        first = number * PARTS_PER_FILE
        of_file = range(first, first + PARTS_PER_FILE)
        in_ledger = summarize_whole_ledger(stay, ledger.of(of_file), in_ledger)
    return leaving, in_ledger


class _Spool:
    """A catalog in a temporary file, in the pieces that were added: to read it from its own files
    takes many times as long, and in memory it may not fit."""

    def __enter__(self) -> Self:
        self._file = TemporaryFile()
        compressed = pa.ipc.IpcWriteOptions(compression="zstd")
        self._writer = pa.ipc.new_file(self._file, arrow_schema(Catalog), options=compressed)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, rows: pa.Table) -> None:
        """Add a piece, which may have no rows."""
        piece = rows.cast(arrow_schema(Catalog)).combine_chunks()
        nothing = pa.RecordBatch.from_pylist([], schema=piece.schema)
        self._writer.write_batch(next(iter(piece.to_batches()), nothing))

    def pieces(self) -> Iterator[pa.Table]:
        """Yield the pieces, from the first one on; none is added from then on."""
        self._writer.close()
        self._file.seek(0)
        reader = pa.ipc.open_file(self._file)
        for number in range(reader.num_record_batches):
            yield pa.Table.from_batches([reader.get_batch(number)])


class _Ledger:
    """What is summed up of a ledger, read from its few files for readers, if it has these, as parts
    are asked for in their order."""

    def __init__(self, store: Store, ledger: Manifest) -> None:
        self._store = store
        files = ledger.compacted or ledger.files.items()
        self._waiting = deque(_with_span(file) for file in files)
        self._held: list[tuple[range, pa.Table]] = []

    def of(self, parts: range) -> pa.Table:
        """Return the rows of neighbouring parts, which lie behind those that were asked for
        before."""
        self._held = [(span, rows) for span, rows in self._held if span.stop > parts.start]
        while self._waiting and self._waiting[0][0].start < parts.stop:
            span, file = self._waiting.popleft()
            self._held.append((span, self._store.read_part(file, [*SUMMED, "part"])))
        nothing = arrow_schema(Ledger).empty_table().select([*SUMMED, "part"])
        rows = pa.concat_tables([nothing, *(rows for _, rows in self._held)])
        part = rows["part"]
        is_of = pc.and_(pc.greater_equal(part, parts.start), pc.less(part, parts.stop))
        return rows.filter(is_of)


def _with_span(file: Compacted | tuple[int, PartFile]) -> tuple[range, PartFile]:
    """Return the parts whose rows a file has, with the file."""
    if isinstance(file, Compacted):
        return range(file.first_part, file.last_part + 1), file
    part, of_part = file
    return range(part, part + 1), of_part


def _workers(table: Manifest, parts: Iterable[int]) -> int:
    """Return how many parts of a table to rewrite at a time: log-mels of many would not fit into
    memory."""
    largest = max((table.files[part].bytes for part in parts), default=0)
    return max(2, min(_WORKERS, _BYTES_AT_ONCE // max(1, largest)))


def take_out_corrections(store: Store, track_ids: Collection[str]) -> None:
    """Take the rows of some tracks, which are not published any more, out of the folder's own file
    of corrections.

    Raises:
        CatalogError: the file is there, and cannot be read as one.
    """
    if not store.exists(FILE_NAME):
        return
    gone = {spelling for track_id in track_ids for spelling in spellings(track_id)}
    others = _alike_but_for_blanks(store, gone)
    path = local_path(store.url(FILE_NAME))
    with nullcontext() if path is None else alone(Path(path)):  # a review may be writing to it
        before = store.read_bytes(FILE_NAME)
        after = without_tracks(before, gone.__contains__, others.__contains__)
        if after != before:
            store.write_bytes(FILE_NAME, after)


def _alike_but_for_blanks(store: Store, track_ids: Collection[str]) -> set[str]:
    """Return the ids of published tracks that have blanks around one of some ids."""
    bare = pa.array(sorted(track_ids), pa.string())
    found: set[str] = set()
    for catalog in store.latest().of("catalog"):
        for _, rows in store.iter_parts(catalog, ["track_id"]):
            track_id = rows["track_id"]
            trimmed = pc.utf8_trim_whitespace(track_id)
            is_alike = pc.is_in(trimmed, bare)
            alike = track_id.filter(is_alike)
            found.update(alike.to_pylist())
    return found


@dataclass(frozen=True)
class _Rewriting:
    """Tables made again without the tracks `gone`, which lie in `parts`; `in_ledger` counts those
    that stay, and `made` grows, by the refs of the old ones."""

    store: Store
    gone: Sequence[Catalog]
    parts: Collection[int]
    classes: Sequence[str]
    in_ledger: LedgerSummary
    made: dict[str, Manifest]

    def has_parents(self, old: Manifest) -> bool:
        """Whether the tables that a table was made from are made again."""
        return self.made.keys() >= set(old.parents)

    def commit(self, old: Manifest) -> None:
        """Commit a table whose parents are made."""
        parents = [self.made[ref] for ref in old.parents]
        stage = f"takedown {old.stage}"
        generation = generation_name(stage, old.round, {"of": old.ref}, parents)
        refs = sorted(parent.ref for parent in parents)
        planned = replace(old, generation=generation, parents=tuple(refs))
        self.made[old.ref] = self.store.commit_once(planned, partial(self._make, old))
        old.forget_files()

    def _make(self, old: Manifest, planned: Manifest) -> Made:
        """Write the parts that had the tracks; what rows cost and when they were made stays as it
        was."""
        parts = sorted(self.parts) if old.table in _BY_TRACK else []
        # Many at once for the latency of a bucket.
        with ThreadPoolExecutor(_workers(old, parts)) as threads:
            rewritten = list(threads.map(partial(self._rewrite, old, planned), parts))
        changed = {}
        left_out = {}
        for part, (file, gone) in zip(parts, rewritten, strict=True):
            changed[part] = file
            left_out[part] = gone
        files = with_changed(old.files, changed)
        self._write_counts(old, planned, left_out)
        summary = self._summary(old, left_out.values())
        return Made(files, summary, knows_cpu_s=True, compacted=self._for_readers(planned, files))

    def _for_readers(
        self, planned: Manifest, files: Mapping[int, PartFile]
    ) -> tuple[Compacted, ...]:
        """Write the files for readers of a table without the tracks, each from the one before: to
        make them of their parts takes one request per part.

        None if they are of an earlier schema version, or not as they were written.
        """
        if planned.schema_version < SCHEMA_VERSION:
            return ()
        with ThreadPoolExecutor(_COMPACTORS) as threads, suppress(StoreError):
            own = partial(self._without_gone, planned, files)
            return tuple(threads.map(own, planned.compacted, range(len(planned.compacted))))
        return ()

    def _without_gone(
        self, planned: Manifest, files: Mapping[int, PartFile], before: Compacted, number: int
    ) -> Compacted:
        """Write one file for readers without the tracks; that of unchanged parts is copied."""
        parts = range(before.first_part, before.last_part + 1)
        of = parts_digest({part: files[part] for part in parts if part in files})
        data = self.store.read_file(before)
        rows = before.rows
        if of != before.of:
            table = pq.read_table(io.BytesIO(data))
            is_gone = pc.is_in(table["track_id"], self._gone_ids())
            left = table.filter(pc.invert(is_gone))
            data = compacted_bytes(planned.table, [left])
            rows = len(left)
        file = self.store.write_file(compacted_path(planned.ref, number), data, rows)
        return replace(before, of=of, **asdict(file))

    def _gone_ids(self) -> pa.Array:
        return pa.array([track.track_id for track in self.gone])

    def _rewrite(
        self, old: Manifest, planned: Manifest, part: int
    ) -> tuple[PartFile, Summary | None]:
        """Write a part without the tracks; return its file, and the sum of the rows that go."""
        # As they were written: files of a table are of one schema version.
        rows = self.store.read_as_written(old.files[part])
        is_gone = pc.is_in(rows["track_id"], self._gone_ids())
        stay = rows.filter(pc.invert(is_gone))
        file = self.store.write_part(old.table, planned.generation, part, stay)
        tracks = [track for track in self.gone if track.part == part]
        return file, self._count(old.table, rows.filter(is_gone), tracks)

    def _write_counts(
        self, old: Manifest, planned: Manifest, left_out: Mapping[int, Summary | None]
    ) -> None:
        """Write what is counted in each part from now on, where that was known; so nobody who comes
        later misses the receipts, which go."""

        def change(part: int, counts: dict[str, Any]) -> dict[str, Any]:
            gone = left_out[part]
            if gone is None:
                return counts
            before = loaded(type(gone), of_today(counts, self.classes), old.ref)
            return dump(before.less(gone))

        copy_counts(self.store, old.ref, planned.ref, left_out.keys(), change)

    def _count(self, table: str, rows: pa.Table, tracks: Sequence[Catalog]) -> Summary | None:
        """Sum up rows of a table as its stage does."""
        match table:
            case "ledger":
                return summarize_whole_ledger(to_arrow(Catalog, tracks), rows)
            case "embeddings":
                return summarize_embeddings(rows, tracks)
            case "labels":
                return summarize_labels(rows, tracks, self.classes)
            case "scores":
                return summarize_scores(rows, tracks, self.classes)
            case "songs":
                return summarize_songs(rows, tracks, self.classes)
        return None

    def _summary(self, old: Manifest, left_out: Iterable[Summary | None]) -> dict[str, Any]:
        """Return a table's summary as if the rows that go had never been counted, with how many of
        the labelled tracks that it learned from were taken down."""
        summary = self._counted_without(old, left_out)
        labelled = [track for track in self.gone if track.label is not None]
        if not labelled or old.table in BEFORE_ROUNDS:
            return summary
        before = old.summary.get(TAKEN_DOWN, 0)
        return summary | {TAKEN_DOWN: before + len(labelled)}

    def _counted_without(self, old: Manifest, left_out: Iterable[Summary | None]) -> dict[str, Any]:
        match old.table:
            case "segments" | "features" | "ledger":
                # Anew: a retry in vain leaves the segments of an earlier ledger.
                cost = old.about(LedgerSummary)
                summary = replace(
                    self.in_ledger,
                    cpu_s=cost.cpu_s,
                    read_bytes=cost.read_bytes,
                    read_s=cost.read_s,
                )
                return dump(summary)
            case "embeddings" | "labels" | "scores" | "songs":
                of_parts = [gone for gone in left_out if gone is not None]
                return self._without(old, reduce(add, of_parts))
            case "rounds" if old.summary.get("confusions"):
                return self._without(old, self._labelled_by_both(old))
            case _:
                return old.summary

    def _labelled_by_both(self, verdict: Manifest) -> Summary:
        """Return what the two models that an undecided verdict joined make of the tracks that
        go."""
        scores = [ref for ref in verdict.parents if ref.startswith("scores/")]
        before, after = map(self.store.named, scores)
        return summarize_both(self.store, (before, after), self.gone, self.classes)

    def _without(self, old: Manifest, gone: Summary) -> dict[str, Any]:
        """Take what is gone out of a summary; what was fitted to all rows stays."""
        left = old.about(type(gone), self.classes).less(gone)
        return of_today(old.summary, self.classes) | dump(left)
