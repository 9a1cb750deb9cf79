"""What of an earlier publication stands, so that a night of additions costs what is new.

The rule, in one place. What is learned (a model, a split, a verdict, the song classifier) stands
while the settings and the labelled tracks that it was learned from do: which they are, their
labels, groups, splits, folds and parts, and their rows in each table that was read; and while none
of them is taken down. Tracks without a label may come, go and change: nothing is learned from them.
The rows of a part stand while its files, its tracks and what was learned do
(pipelines.beam.earlier); so do the scores of a track in a part that changed otherwise.

Nothing is named anew: a generation that takes others' files over has the name that it would have if
it made them. Files are told apart by their digests in manifests. Only parts that changed and hold a
labelled track are opened.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.beam.earlier import Earlier, read_manifest
from pipelines.stages.context import Context
from pipelines.stages.settings import SOUND
from sssl.catalog.committed import read_labelled
from sssl.catalog.lookup import in_one_piece, without_alike
from sssl.embedding.settings import without_history
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.manifest import KEPT_FROM, TAKEN_DOWN, Manifest, PartFile, Snapshot

LEARNED_BY = ("track_id", "label", "group_id", "split", "fold", "locked", "part", "corrections")
"""What of a labelled track's row in the catalog networks and what goes by them depend on."""
TOLD_BY_CATALOG = tuple(name for name in LEARNED_BY if name != "part")
"""What of it a catalog tells that has no parts yet: a track that was there keeps its part."""
_WHOLE = ("catalog", "models", "rounds")
"""Tables without one file per part."""


def find_earlier(
    context: Context, planned: Manifest, inputs: Mapping[str, Manifest]
) -> Earlier | None:
    """Return the published generation of a planned table that was made with the same settings and
    models from earlier generations of its inputs; None if there is none."""
    for manifest in context.published.of(planned.table):
        alike = manifest.stage == planned.stage and manifest.round == planned.round
        if KEPT_FROM in manifest.config and not context.keeps_learned:
            continue  # it did not learn from the labelled tracks of its parents
        if alike and own_config(manifest) == own_config(planned) and manifest.ref != planned.ref:
            return as_earlier(context.store, manifest, inputs)
    return None


def learned_stands(context: Context, earlier: Earlier, inputs: Mapping[str, Manifest]) -> bool:
    """Whether what an earlier generation learned stands: its labelled tracks and their rows are as
    they were, or the run is to keep it whatever became of them."""
    return context.keeps_learned or is_unchanged(context.store, earlier, inputs)


def is_unchanged(
    store: Store,
    earlier: Earlier,
    inputs: Mapping[str, Manifest],
    learned_by: tuple[str, ...] = LEARNED_BY,
) -> bool:
    """Whether the labelled tracks that an earlier generation learned from are as they were, by some
    columns of the catalog and by their rows."""
    if taken_down_since(read_manifest(store, earlier.ref)):
        return False
    return not _changed(store, earlier, inputs, learned_by)


def mean_the_same(store: Store, earlier: Earlier, inputs: Mapping[str, Manifest]) -> bool:
    """Whether the columns of an earlier generation's inputs mean what they mean now: embeddings of
    the same front-end, sound of the same version. Nothing that was learned from others fits."""
    before = {name: read_manifest(store, ref) for name, ref in earlier.inputs.items()}
    return all(_meaning(before[name]) == _meaning(now) for name, now in inputs.items())


def _meaning(table: Manifest) -> Any:
    if table.table == "embeddings":
        return without_history(table.config)
    if table.table == "segments":
        return table.config.get(SOUND)
    return None


def changed_since_learned(context: Context) -> int:
    """Count the labelled tracks that are new, gone, taken down or changed since the published model
    learned."""
    snapshot = context.snapshot
    origin = origin_of(context.store, context.published.get("models", 0))
    tables = {"catalog": snapshot.get("catalog"), "features": snapshot.features}
    earlier = Earlier(origin.ref, _learned_from(context.store, origin), {})
    changed = _changed(context.store, earlier, tables)
    return len(changed) + taken_down_since(origin)


def would_have_changed(
    store: Store, published: Snapshot, labelled: pa.Table, new_sources: Collection[str]
) -> int:
    """Foresee what `changed_since_learned` counts once a catalog is segmented: by its labelled
    tracks with the columns `TOLD_BY_CATALOG`, and which of them have another source."""
    origin = origin_of(store, published.get("models", 0))
    before = _learned_from(store, origin)
    known = _labelled(store, before["catalog"], TOLD_BY_CATALOG)
    changed = set(_differing(known, with_corrections_as_text(labelled)))
    # Where a night did not learn, rows may be others than those of the model already.
    catalog = published.get("catalog").ref
    other_rows = _changed_rows(store, catalog, before["features"], published.features.ref)
    track_ids = labelled["track_id"].to_pylist()
    changed.update(other_rows.intersection(track_ids), new_sources)
    return len(changed) + taken_down_since(origin)


def _learned_from(store: Store, model: Manifest) -> dict[str, str]:
    """Return the refs of the catalog and the features that a model was trained on."""
    parents = [read_manifest(store, ref) for ref in model.parents]
    refs = {m.table: m.ref for m in parents if m.table in ("catalog", "features", "segments")}
    refs.setdefault("features", refs.pop("segments", ""))  # of schema versions 1 to 4
    return refs


def taken_down_since(learned: Manifest) -> int:
    """Count the labelled tracks that something learned from and that were taken down since: the
    catalog of before does not have them either, so nothing else tells."""
    return int(learned.summary.get(TAKEN_DOWN, 0))


def origin_of(store: Store, model: Manifest) -> Manifest:
    """Return the generation of a model that was trained: itself, unless it was kept for other
    tracks."""
    origin = store.manifest_if_whole(model.config.get(KEPT_FROM, model.ref))
    parents = () if origin is None else origin.parents
    is_there = bool(parents) and all(store.manifest_if_whole(ref) for ref in parents)
    if origin is not None and is_there:
        return origin
    return model  # a takedown deletes what is not published


def origin_stands(context: Context, origin: Manifest, inputs: Mapping[str, Manifest]) -> bool:
    """Whether the labelled tracks that a model was trained on are as they were."""
    earlier = as_earlier(context.store, origin, inputs)
    if taken_down_since(origin):
        return False
    return earlier is not None and not _changed(context.store, earlier, inputs)


def own_config(manifest: Manifest) -> dict[str, Any]:
    """Return the settings of a stage, without what says where a kept model comes from."""
    return {name: value for name, value in manifest.config.items() if name != KEPT_FROM}


def _changed(
    store: Store,
    earlier: Earlier,
    inputs: Mapping[str, Manifest],
    learned_by: tuple[str, ...] = LEARNED_BY,
) -> frozenset[str]:
    """Return the labelled tracks that are new, gone or changed, by the tables that were read."""
    catalog_before = earlier.inputs["catalog"]
    catalog = inputs["catalog"].ref
    changed = _changed_tracks(store, catalog_before, catalog, learned_by)
    for name, manifest in inputs.items():
        if manifest.table not in _WHOLE:
            before = earlier.inputs[name]
            changed |= _changed_rows(store, catalog, before, manifest.ref)
    return changed


def as_earlier(store: Store, manifest: Manifest, inputs: Mapping[str, Manifest]) -> Earlier | None:
    """Return a generation with what it was made from, by the names that inputs of the same tables
    have; None where that is gone, is of other tables or of other models."""
    try:
        parents = [read_manifest(store, ref) for ref in manifest.parents]
    except StoreError:
        return None  # a takedown deletes them
    by_kind = {(parent.table, parent.round): parent for parent in parents}
    asked = {(given.table, given.round) for given in inputs.values()}
    if by_kind.keys() != asked:
        return None
    known = {}
    for name, given in inputs.items():
        parent = by_kind[given.table, given.round]
        if given.table == "models" and parent.digest != given.digest:
            return None
        known[name] = parent.ref
    return Earlier(manifest.ref, known, {manifest.table: manifest.ref})


@lru_cache(maxsize=8)
def _labelled(store: Store, catalog: str, learned_by: tuple[str, ...] = LEARNED_BY) -> pa.Table:
    rows = read_labelled(store, read_manifest(store, catalog), learned_by)
    return with_corrections_as_text(rows)


def with_corrections_as_text(rows: pa.Table) -> pa.Table:
    """Return rows of a catalog with their corrections as JSON, to be compared."""
    corrections = rows["corrections"].to_pylist()
    said = [None if own is None else json.dumps(own) for own in corrections]
    place = rows.schema.get_field_index("corrections")
    return rows.set_column(place, "corrections", pa.array(said, pa.string()))


@lru_cache(maxsize=8)
def _changed_tracks(
    store: Store, before: str, now: str, learned_by: tuple[str, ...]
) -> frozenset[str]:
    """Return the tracks that are labelled in one catalog and not in the other, or otherwise."""
    if before == now:
        return frozenset()
    return _differing(_labelled(store, before, learned_by), _labelled(store, now, learned_by))


def _differing(before: pa.Table, now: pa.Table) -> frozenset[str]:
    """Return the tracks that only one of two tables has, or that have other values in them."""
    columns = before.column_names
    # Most of a million are alike: they never become Python objects.
    differing = without_alike(in_one_piece(now.select(columns)), [before], columns)
    rows = _as_rows(differing.before) ^ _as_rows(differing.now)
    return frozenset(track_id for track_id, *_ in rows)


def _as_rows(table: pa.Table) -> set[tuple[Any, ...]]:
    columns = table.to_pydict().values()
    return set(zip(*columns, strict=True))


@lru_cache(maxsize=64)
def _changed_rows(store: Store, catalog: str, before: str, now: str) -> frozenset[str]:
    """Return the labelled tracks of a catalog that have other rows in one generation of a table
    than in another."""
    old = read_manifest(store, before).files
    new = read_manifest(store, now).files
    labelled = _labelled(store, catalog)
    parts = labelled["part"].to_pylist()
    track_ids = labelled["track_id"].to_pylist()
    of_part: defaultdict[int, list[str]] = defaultdict(list)
    for part, track_id in zip(parts, track_ids, strict=True):
        of_part[part].append(track_id)
    changed: set[str] = set()
    for part, own in of_part.items():
        changed.update(_changed_in_part(store, old.get(part), new[part], own))
    return frozenset(changed)


def _changed_in_part(
    store: Store, before: PartFile | None, now: PartFile, ids: list[str]
) -> list[str]:
    """Return which of some tracks have other rows in two files of a part; all if the older is
    lost."""
    if before is None:
        return ids
    if before.sha256 == now.sha256:
        return []
    try:
        old = store.read_part(before)
        new = store.read_part(now)
    except StoreError:
        return ids
    changed = []
    for track_id in ids:
        rows_before = rows_of(old, track_id)
        rows_now = rows_of(new, track_id)
        if not rows_before.equals(rows_now):
            changed.append(track_id)
    return changed


def rows_of(table: pa.Table, track_id: str) -> pa.Table:
    """Return the rows of a track."""
    return table.filter(pc.equal(table["track_id"], track_id))
