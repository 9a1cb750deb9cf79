"""Take tracks out of an output folder: new generations without them, then away with everything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas import TABLES, Catalog, Ledger, columns
from sssl.catalog.ledger import ledger_counts
from sssl.catalog.read import commit_catalog, read_dealt, rows_of
from sssl.errors import StoreError
from sssl.labels.relabel import label_counts
from sssl.model.scores import score_counts
from sssl.songs.classifier import song_counts
from sssl.store.folder import Store
from sssl.store.manifest import Made, Manifest, PartFile, Snapshot, generation_name

Counts = Counter[str]
_BY_TRACK = {name for name, table in TABLES.items() if any(column.name == "track_id" for column in columns(table))}


def without(store: Store, snapshot: Snapshot, track_ids: Collection[str]) -> Snapshot:
    """Commit every table of a snapshot again without some tracks; parts that have none of them keep their files.

    What was judged and fitted stays as it was: verdicts, mixtures, the song classifier and its threshold.

    Raises:
        StoreError: no track would be left.
    """
    before, gone = read_dealt(store, snapshot.get("catalog")), pa.array(sorted(set(track_ids)), pa.string())
    is_gone = pc.is_in(before.tracks["track_id"], gone)
    tracks = before.tracks.filter(pc.invert(is_gone))
    if not len(tracks):
        raise StoreError("no track would be left: delete the output folder instead")
    if len(tracks) == len(before.tracks):
        return snapshot
    assert before.config is not None  # it was read with the catalog
    catalog, leaving = snapshot.get("catalog"), rows_of(before.tracks.filter(is_gone))
    rewriting = _Rewriting(
        store,
        gone=leaving,
        parts={track.part for track in leaving},
        classes=catalog.summary["classes"],
        in_ledger=_ledger_counts(store, snapshot.get("ledger"), rows_of(tracks)),
        made={catalog.ref: commit_catalog(store, tracks, before.config, catalog)},
    )
    waiting = [manifest for manifest in snapshot.manifests if manifest.table != "catalog"]
    while waiting:
        ready = next(manifest for manifest in waiting if rewriting.made.keys() >= set(manifest.parents))
        waiting.remove(ready)
        rewriting.commit(ready)
    return Snapshot(tuple(rewriting.made[old.ref] for old in snapshot.manifests))


def delete_unpublished(store: Store) -> int:
    """Delete every file of a table that the published snapshot does not need; return how many there were."""
    published = store.latest().manifests
    needed = {file.path for manifest in published for file in manifest.files.values()}
    needed |= {f"{manifest.ref}/manifest.json" for manifest in published}
    tables = sorted({*TABLES, *(manifest.table for manifest in published)})
    unneeded = [path for table in tables for path in store.find(table) if path not in needed]
    for path in unneeded:
        store.delete(path)
    return len(unneeded)


@dataclass(frozen=True)
class _Rewriting:
    """Tables made again without the tracks `gone`, which lie in `parts`; `in_ledger` counts those that stay, and `made`
    grows, by the refs of the old ones."""

    store: Store
    gone: Sequence[Catalog]
    parts: Collection[int]
    classes: Sequence[str]
    in_ledger: Counts
    made: dict[str, Manifest]

    def commit(self, old: Manifest) -> None:
        """Commit a table whose parents are made."""
        parents = [self.made[ref] for ref in old.parents]
        planned = replace(
            old,
            generation=generation_name(f"takedown {old.stage}", old.round, {"of": old.ref}, parents),
            parents=tuple(sorted(parent.ref for parent in parents)),
        )
        self.made[old.ref] = self.store.commit_once(planned, partial(self._make, old))

    def _make(self, old: Manifest, planned: Manifest) -> Made:
        """Write the parts that had the tracks; what rows cost and when they were made stays as it was."""
        ids = pa.array([track.track_id for track in self.gone])
        files: dict[int, PartFile] = dict(old.files)
        left_out = []
        for part in sorted(self.parts) if old.table in _BY_TRACK else ():
            rows = self.store.read_part(old.files[part])
            is_gone = pc.is_in(rows["track_id"], ids)
            files[part] = self.store.write_part(old.table, planned.generation, part, rows.filter(pc.invert(is_gone)))
            left_out.append(rows.filter(is_gone))
        return Made(files, self._summary(old, left_out), knows_cpu_s=True)

    def _summary(self, old: Manifest, left_out: list[pa.Table]) -> dict[str, Any]:
        """Return a table's summary as if the rows that go had never been counted."""
        match old.table:
            case "segments" | "ledger":
                # Anew: a retry in vain leaves the segments of an earlier ledger.
                return {name: value for name, value in old.summary.items() if name == "cpu_s"} | dict(self.in_ledger)
            case "labels":
                counts = label_counts(pa.concat_tables(left_out), self.gone)
            case "scores":
                counts = score_counts(pa.concat_tables(left_out), self.gone, self.classes)
            case "songs":
                counts = song_counts(pa.concat_tables(left_out), self.gone)
            case _:
                return old.summary
        return _less(old.summary, counts)


def _ledger_counts(store: Store, ledger: Manifest, tracks: Sequence[Catalog]) -> Counts:
    entries = {row["track_id"]: Ledger(**row) for row in store.read_table(ledger).to_pylist()}
    return ledger_counts(tracks, [entries[track.track_id] for track in tracks])


def _less(summary: Mapping[str, Any], counts: Counts) -> dict[str, Any]:
    """Subtract counts; what is counted by name, as `confusion/...`, is not mentioned once there is none of it."""
    # Rounded, as sums of losses leave a residue; not below 0, whatever an earlier version counted.
    changed = {name: max(0, round(summary.get(name, 0) - count, 9)) for name, count in counts.items()}
    return {name: value for name, value in {**summary, **changed}.items() if value or "/" not in name}
