"""Take tracks out of an output folder: new generations without them, then away with everything
else."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import SCHEMA_VERSION, TABLES, Catalog, columns, to_arrow
from schemas.records import dump
from schemas.summaries import LedgerSummary, Summary, of_today
from sssl.catalog.committed import commit_catalog, read_dealt, rows_of
from sssl.catalog.corrections import FILE_NAME, without_tracks
from sssl.catalog.counts import read_counts, write_counts
from sssl.catalog.ledger import SUMMED, summarize_whole_ledger
from sssl.embedding.table import summarize_embeddings
from sssl.errors import StoreError
from sssl.labels.comparison import summarize_both
from sssl.labels.relabel import summarize_labels
from sssl.model.scores import summarize_scores
from sssl.songs.song import summarize_songs
from sssl.store.atomic import alone, is_leftover
from sssl.store.folder import Store
from sssl.store.layout import PARTS, RECEIPTS, WORK, compacted_path, counts_path
from sssl.store.manifest import (
    Compacted,
    Made,
    Manifest,
    PartFile,
    Snapshot,
    generation_name,
    loaded,
    parts_digest,
)
from sssl.store.parquet import compacted_bytes
from sssl.store.pointer import LATEST
from sssl.store.removals import spellings
from sssl.urls import local_path
from sssl.words import counted

_WORKERS = 32
_COMPACTORS = 4  # each with a file of 64 MB, several times that in memory
_DELETED_AT_ONCE = 20_000  # paths that are kept in requests at a time
_BEFORE_ROUNDS = ("catalog", "segments", "features", "ledger", "embeddings")
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
    before = read_dealt(store, snapshot.get("catalog"))
    gone = pa.array(sorted(set(track_ids)), pa.string())
    is_gone = pc.is_in(before.tracks["track_id"], gone)
    tracks = before.tracks.filter(pc.invert(is_gone))
    if not len(tracks):
        raise StoreError("no track would be left: delete the output folder instead")
    if len(tracks) == len(before.tracks):
        return snapshot
    assert before.config is not None  # it was read with the catalog
    catalog = snapshot.get("catalog")
    leaving = rows_of(before.tracks.filter(is_gone))
    rewriting = _Rewriting(
        store,
        gone=leaving,
        parts={track.part for track in leaving},
        classes=snapshot.catalog.classes,
        in_ledger=summarize_whole_ledger(tracks, _read_ledger(store, snapshot.get("ledger"))),
        made={catalog.ref: commit_catalog(store, tracks, before.config, catalog)},
    )
    waiting = [manifest for manifest in snapshot.manifests if manifest.table != "catalog"]
    while waiting:
        ready = next(
            manifest for manifest in waiting if rewriting.made.keys() >= set(manifest.parents)
        )
        waiting.remove(ready)
        rewriting.commit(ready)
    return Snapshot(tuple(rewriting.made[old.ref] for old in snapshot.manifests))


def _read_ledger(store: Store, ledger: Manifest) -> pa.Table:
    """Read what is summed up of a ledger, from its few files for readers if it has these."""
    files = ledger.for_readers.values()
    return pa.concat_tables(store.read_part(file, list(SUMMED)) for file in files)


def delete_unpublished(store: Store) -> int:
    """Delete every file of a table that the published snapshot does not need; return how many there
    were.

    Raises:
        StoreError: nothing is published though it once was: that nothing is needed is no evidence
            then.
    """
    published = store.latest().manifests
    refuse_lost_pointer(store, published)
    needed = {file.path for manifest in published for file in manifest.all_files}
    needed |= {store.manifest_path(manifest.ref) for manifest in published}
    needed |= {manifest.listed.path for manifest in published if manifest.listed is not None}
    needed |= {counts_path(manifest.ref) for manifest in published}
    tables = {*TABLES, *WORK, *(manifest.table for manifest in published)}
    folders = sorted({PARTS, RECEIPTS, *tables})
    unneeded = [path for folder in folders for path in store.find(folder) if path not in needed]
    delete_all(store, unneeded)
    return len(unneeded)


def delete_all(store: Store, paths: Iterable[str]) -> None:
    """Delete files, many in a request where a bucket has that."""
    waiting = iter(paths)
    while batch := list(islice(waiting, _DELETED_AT_ONCE)):
        store.medium.delete_many(batch)


def take_out_corrections(store: Store, track_ids: Collection[str]) -> None:
    """Take the rows of some tracks out of the folder's own file of corrections.

    Raises:
        CatalogError: the file is there, and cannot be read as one.
    """
    if not store.exists(FILE_NAME):
        return
    gone = {spelling for track_id in track_ids for spelling in spellings(track_id)}
    path = local_path(store.url(FILE_NAME))
    with nullcontext() if path is None else alone(Path(path)):  # a review may be writing to it
        before = store.read_bytes(FILE_NAME)
        after = without_tracks(before, gone.__contains__)
        if after != before:
            store.write_bytes(FILE_NAME, after)


def delete_reports(store: Store) -> None:
    """Delete reports, which show tracks by name: that of now, copies that earlier versions gave
    MLflow, and whatever a kill left half written."""
    for path in store.find(""):
        name = path.rsplit("/", 1)[-1]
        if name == "report.html" or is_leftover(name):
            store.delete(path)


def refuse_lost_pointer(store: Store, published: Collection[Manifest]) -> None:
    """Refuse to take tables for unpublished where the pointer to the published ones is lost.

    A first run that was stopped has published nothing: its folder has a pointer to no table, or is
    of a version that wrote none. Then it has no table of a round either, as a run publishes its
    segments before it trains.
    """
    committed = [] if published else store.committed_refs()
    of_rounds = [ref for ref in committed if ref.partition("/")[0] not in _BEFORE_ROUNDS]
    if of_rounds or (committed and not store.has_pointer):
        tables = counted(len(committed), "committed table")
        raise StoreError(
            f"{store.root} has {tables} and no pointer to what is published ({LATEST}): nothing is "
            "deleted. Restore the pointer from a backup, or run the `sssl run` of before again, "
            "which finds its tables and publishes them"
        )


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

    def commit(self, old: Manifest) -> None:
        """Commit a table whose parents are made."""
        parents = [self.made[ref] for ref in old.parents]
        stage = f"takedown {old.stage}"
        generation = generation_name(stage, old.round, {"of": old.ref}, parents)
        refs = sorted(parent.ref for parent in parents)
        planned = replace(old, generation=generation, parents=tuple(refs))
        self.made[old.ref] = self.store.commit_once(planned, partial(self._make, old))

    def _make(self, old: Manifest, planned: Manifest) -> Made:
        """Write the parts that had the tracks; what rows cost and when they were made stays as it
        was."""
        parts = sorted(self.parts) if old.table in _BY_TRACK else []
        # Many at once for the latency of a bucket.
        with ThreadPoolExecutor(_WORKERS) as threads:
            rewritten = list(threads.map(partial(self._rewrite, old, planned), parts))
        files = dict(old.files)
        left_out: dict[int, pa.Table] = {}
        for part, (file, rows) in zip(parts, rewritten, strict=True):
            files[part] = file
            left_out[part] = rows
        self._write_counts(old, planned, left_out)
        summary = self._summary(old, list(left_out.values()))
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

    def _rewrite(self, old: Manifest, planned: Manifest, part: int) -> tuple[PartFile, pa.Table]:
        """Write a part without the tracks; return its file, and the rows that go."""
        # As they were written: files of a table are of one schema version.
        rows = self.store.read_as_written(old.files[part])
        is_gone = pc.is_in(rows["track_id"], self._gone_ids())
        stay = rows.filter(pc.invert(is_gone))
        file = self.store.write_part(old.table, planned.generation, part, stay)
        return file, rows.filter(is_gone)

    def _write_counts(
        self, old: Manifest, planned: Manifest, left_out: Mapping[int, pa.Table]
    ) -> None:
        """Write what is counted in each part from now on, where that was known; so nobody who comes
        later misses the receipts, which go."""
        counts = read_counts(self.store, old.ref)
        if counts is None:
            return
        for part, rows in left_out.items():
            tracks = [track for track in self.gone if track.part == part]
            gone = self._count(old.table, rows, tracks)
            if gone is None or part not in counts:
                continue
            known = of_today(counts[part], self.classes)
            before = loaded(type(gone), known, old.ref)
            left = before.less(gone)
            counts[part] = dump(left)
        write_counts(self.store, planned.ref, counts)

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

    def _summary(self, old: Manifest, left_out: list[pa.Table]) -> dict[str, Any]:
        """Return a table's summary as if the rows that go had never been counted."""
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
                rows = pa.concat_tables(left_out)
                gone = self._count(old.table, rows, self.gone)
                assert gone is not None
                return self._without(old, gone)
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
