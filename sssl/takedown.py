"""Take tracks out of an output folder: new generations without them, then away with everything else.

The ids themselves are not kept: `takedown.json` holds their SHA-256, so that later runs leave the tracks out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from schemas import TABLES, Ledger, columns
from sssl.catalog import commit_catalog, read_dealt, rows_of
from sssl.ledger import ledger_counts
from sssl.store import Manifest, PartFile, Snapshot, Store, StoreError, generation_name

_FILE = "takedown.json"
_BY_TRACK = {name for name, table in TABLES.items() if any(column.name == "track_id" for column in columns(table))}


def hash_id(track_id: str) -> str:
    """Return what `takedown.json` keeps of a track id."""
    return hashlib.sha256(track_id.encode()).hexdigest()


def taken_down(store: Store) -> frozenset[str]:
    """Return the hashes of all ids that were taken down."""
    return frozenset(store.read_json(_FILE)["sha256_of_track_ids"]) if store.exists(_FILE) else frozenset()


def remember(store: Store, track_ids: Iterable[str], *, undo: bool = False) -> None:
    """Add ids to those that later runs leave out; `undo` lets them come back."""
    known, given = taken_down(store), frozenset(map(hash_id, track_ids))
    store.write_json(_FILE, {"sha256_of_track_ids": sorted(known - given if undo else known | given)})


def without(store: Store, snapshot: Snapshot, track_ids: Collection[str]) -> Snapshot:
    """Commit every table of a snapshot again without some tracks; parts that have none of them keep their files.

    What rounds and summaries say of models that were judged stays as it was judged.

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
    catalog, ledger, rows = snapshot.get("catalog"), snapshot.get("ledger"), rows_of(tracks)
    entries = {record["track_id"]: Ledger(**record) for record in store.read_table(ledger).to_pylist()}
    rewriting = _Rewriting(
        store,
        gone=gone,
        parts=set(before.tracks["part"].filter(is_gone).to_pylist()),
        counts=dict(ledger_counts(rows, [entries[row.track_id] for row in rows])),
        made={catalog.ref: commit_catalog(store, tracks, before.config)},
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
    """Tables made again without the tracks `gone`, which lie in `parts`; `made` grows, by the refs of the old ones."""

    store: Store
    gone: pa.Array
    parts: Collection[int]
    counts: dict[str, float]
    made: dict[str, Manifest]

    def commit(self, old: Manifest) -> None:
        """Commit a table whose parents are made."""
        parents = [self.made[ref] for ref in old.parents]
        generation = generation_name(f"takedown {old.stage}", old.round, {"of": old.ref}, parents)
        by_track = old.table in _BY_TRACK
        files = old.files | {part: self._file(old, part, generation) for part in self.parts if by_track}
        self.made[old.ref] = self.store.commit(
            replace(
                old,
                generation=generation,
                parents=tuple(sorted(parent.ref for parent in parents)),
                files=files,
                summary=self.counts if old.table in ("segments", "ledger") else old.summary,
            )
        )

    def _file(self, old: Manifest, part: int, generation: str) -> PartFile:
        rows = self.store.read_part(old.files[part])
        kept = pc.invert(pc.is_in(rows["track_id"], self.gone))
        return self.store.write_part(old.table, generation, part, rows.filter(kept))
