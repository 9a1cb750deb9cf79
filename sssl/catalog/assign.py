"""Where tracks go: part, split and fold, dealt by a hash of ids, so that the order of the catalog
does not matter.

In columns: a catalog of ten million tracks is dealt in memory.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas import Catalog, arrow_schema
from schemas.records import later
from sssl.catalog.plane import QUADRANTS, TaskName
from sssl.config import require

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
_NONE = -1
# Each table has a file and a receipt for each part, and each job looks through them: 50,000 are
# listed in 50 requests. A part of 128 tracks of four minutes is 128 MB of features, of which a
# worker holds several; more does not fit beside a network. So ten million tracks are 78,125 parts.
_FEWEST_PARTS = 16
_USUAL_TRACKS = 32
_MOST_PARTS = 50_000
_MOST_TRACKS = 128
FEWEST_OF_CLASS = 2
"""Labelled tracks that a class needs to be learned: with one, whatever scores it has never seen the
class."""


@dataclass(frozen=True)
class CatalogConfig:
    """How the catalog is read, and divided into parts, splits and folds."""

    classes: tuple[str, ...] = ("Q1", "Q2", "Q3", "Q4")
    """The emotion classes, in the order that probabilities are written in (Russell quadrants by
    default)."""
    folds: int = 4
    """Cross-fitting folds: a model has one member per fold, which never sees the tracks it
    scores."""
    test_share: float = 0.2
    """Share of labelled groups held out for measuring, if the catalog has no `split` column."""
    tracks_per_part: int | None = None
    """Tracks in a part; default: a sixteenth of the catalog, at most 32, and above 1.6 million
    tracks so many that there are 50,000 parts, at most 128. Existing parts keep their size."""
    allow_uri: tuple[str, ...] = later((), neutral=())
    """Folders and URLs below which all files must be; none: anywhere that is safe
    (docs/catalog.md)."""
    inventory: tuple[str, ...] = later((), neutral=())
    """Inventories of buckets (docs/operate.md), CSV or Parquet: files that they list are not looked
    up. A file that changed since then counts as unchanged until the next inventory."""
    task: TaskName = later("classes", neutral="classes")
    """classes: an emotion per song. valence-arousal: its valence and arousal as numbers, too,
    learned from the columns `valence` and `arousal` of the catalog (from -1 to 1), whose quadrant
    is the label where there is none."""

    def __post_init__(self) -> None:
        require(
            len(set(self.classes)) == len(self.classes) > 1,
            "classes",
            self.classes,
            "two or more, each once",
        )
        require(
            self.folds > 1,
            "folds",
            self.folds,
            "2 or more (`--no-cross-fit` trains a single model)",
        )
        require(
            0 <= self.test_share < 1, "test_share", self.test_share, "a share from 0 to below 1"
        )
        has_quadrants = set(self.classes) == set(QUADRANTS)
        require(
            self.task == "classes" or has_quadrants,
            "classes",
            " ".join(self.classes),
            f"{' '.join(QUADRANTS)} with --task valence-arousal",
        )
        per_part = self.tracks_per_part
        require(per_part is None or per_part > 0, "tracks_per_part", per_part, "1 or more")

    def part_size(self, tracks: int) -> int:
        """Return how many tracks of a catalog go into a part of a new folder."""
        usual = min(_USUAL_TRACKS, max(1, ceil(tracks / _FEWEST_PARTS)))
        of_many = min(_MOST_TRACKS, ceil(tracks / _MOST_PARTS))
        return self.tracks_per_part or max(usual, of_many)


PLACES = ("track_id", "group_id", "split", "fold", "part")
"""Columns that say where a catalog's tracks were dealt."""


@dataclass(frozen=True)
class Dealt:
    """The catalog as an earlier run dealt it, with the columns `PLACES` at least; without its
    config only parts stand."""

    tracks: pa.Table = field(default_factory=lambda: arrow_schema(Catalog).empty_table())
    config: CatalogConfig | None = None

    def groups(self, config: CatalogConfig) -> pa.Table:
        """Return the tracks whose split and fold stand under a config: all or none."""
        if self.config is None:
            return self.tracks.slice(0, 0)
        mine = (self.config.classes, self.config.folds, self.config.test_share)
        other = (config.classes, config.folds, config.test_share)
        if mine == other:
            return self.tracks
        return self.tracks.slice(0, 0)


def deal(tracks: pa.Table, config: CatalogConfig, before: Dealt) -> pa.Table:
    """Give each track its part, split and fold; return the catalog sorted by part and id.

    Groups of a class are dealt in turn, so each fold and the held-out split get their share of each
    class. Tracks and groups that were dealt `before` stay where they are, so that their work can be
    reused and the held-out tracks stay held out; new tracks fill the last part up, then new ones.
    """
    split, fold = deal_sides(tracks, config, before)
    placed = {"split": split, "fold": fold, "part": _deal_parts(tracks, before.tracks, config)}
    for name, values in placed.items():
        place = tracks.schema.get_field_index(name)
        declared = tracks.schema.field(place)
        column = pa.array(values).cast(declared.type)
        tracks = tracks.set_column(place, declared, column)
    return tracks.sort_by([("part", "ascending"), ("track_id", "ascending")])


def deal_sides(
    tracks: pa.Table, config: CatalogConfig, before: Dealt
) -> tuple[pa.ChunkedArray, Ints]:
    """Return the split of each track [N], null without a label, and its fold [N].

    They follow from the columns `group_id`, `label` and `split` of the tracks, and from `group_id`,
    `split` and `fold` of those that were dealt before.
    """
    groups = _groups(tracks)
    settled = before.groups(config)
    says_split = tracks["split"].null_count < len(tracks)
    if says_split:
        # By labelled tracks alone: what a catalog says of others holds nothing out.
        has_label = pc.is_valid(tracks["label"]).to_numpy()
        says_test = _equals(tracks["split"], "test") & has_label
        held_out = np.zeros(len(groups.ids), bool)
        held_out[groups.of_track[says_test]] = True
    else:
        known_split = _known_splits(groups, settled)
        held_out = _hold_out(groups, known_split, config.test_share)
    # By group, also where the catalog says it: a track that it has no label and no split for may
    # have a label from a listener.
    is_test = held_out[groups.of_track]
    fold = _known(groups, settled, "fold").copy()
    for side in (~held_out, held_out):
        _deal_folds(groups, side, config.folds, fold)
    sides = pc.if_else(pa.array(is_test), "test", "train")
    split = pc.if_else(tracks["label"].is_valid(), sides, None)
    return split, fold[groups.of_track]


def deal_folds(rows: Iterable[Catalog], folds: int, salt: str) -> dict[str, int]:
    """Deal groups into folds, class by class; each `salt` gives another deal. Returns the fold by
    group id."""
    group_ids = []
    labels = []
    for row in rows:
        group_ids.append(row.group_id)
        labels.append(row.label)
    columns = [pa.array(group_ids, pa.string()), pa.array(labels, pa.string())]
    groups = _groups(pa.table(columns, ["group_id", "label"]), salt)
    everybody = np.ones(len(groups.ids), bool)
    fold = np.full(len(groups.ids), _NONE)
    _deal_folds(groups, everybody, folds, fold)
    return dict(zip(groups.ids.to_pylist(), fold.tolist(), strict=True))


def without_groups(tracks: pa.Table) -> str | None:
    """Say what it means that no track of a catalog has a group, and how to give some; None if one
    has, or there is nothing to learn."""
    has_labels = tracks["label"].null_count < len(tracks)
    is_own_group = pc.equal(tracks["group_id"], tracks["track_id"])
    if not has_labels or not pc.all(is_own_group).as_py():
        return None
    return (
        "no track has a `group_id`, so each is a group of its own: where several are of one artist"
        " or album, say so in the catalog or, of a folder, in --labels (track_id,group_id), or"
        " accuracy is measured on what was learned"
    )


class _Groups(NamedTuple):
    """The groups of a catalog [G]: their ids, their places in the order of hashes, the class of
    each (the place of its most common label in the order of names, -1 without any), and the group
    of each track [N]."""

    ids: pa.Array
    order: Ints
    class_of: Ints
    of_track: Ints

    def by_class(self, chosen: Mask) -> list[tuple[int, Ints]]:
        """List the classes, -1 first, with the chosen groups of each in the order of hashes."""
        is_chosen = chosen[self.order]
        ordered = self.order[is_chosen]
        classes = self.class_of[ordered]
        names = np.unique(classes).tolist()
        return [(name, ordered[classes == name]) for name in names]


def _groups(tracks: pa.Table, salt: str = "") -> _Groups:
    encoded = whole(tracks["group_id"]).dictionary_encode()
    ids = encoded.dictionary
    of_track = encoded.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(hashes(ids, salt), kind="stable")
    class_of = _classes(tracks["label"], of_track, len(ids))
    return _Groups(ids, order, class_of, of_track)


def _classes(label: pa.ChunkedArray, of_track: Ints, groups: int) -> Ints:
    """Return the most common label of each group [G] as its place in the order of names, the first
    of several that are as common; -1 for a group without any."""
    distinct = label.drop_null().unique()
    names = pa.array(sorted(distinct.to_pylist()), pa.string())
    codes = pc.fill_null(pc.index_in(label, names), _NONE).to_numpy()
    labelled = codes >= 0
    # A pair of group and label as one number, since NumPy counts numbers.
    first_of_group = of_track[labelled] * np.int64(len(names))
    pair_of_track = first_of_group + codes[labelled]
    pairs, counts = np.unique(pair_of_track, return_counts=True)
    group, code = np.divmod(pairs, max(1, len(names)))
    most_common_first = np.lexsort((code, -counts, group))
    found, first = np.unique(group[most_common_first], return_index=True)
    class_of = np.full(groups, _NONE)
    class_of[found] = code[most_common_first][first]
    return class_of


def hashes(texts: pa.Array, salt: str = "") -> NDArray[np.uint64]:
    """Return the first eight bytes of the SHA-256 of each text, as a number."""
    at_once = 1 << 16  # so that few texts at a time are Python objects
    found = bytearray()
    for start in range(0, len(texts), at_once):
        for text in texts.slice(start, at_once).to_pylist():
            digest = hashlib.sha256((salt + text).encode()).digest()
            found += digest[:8]
    return np.frombuffer(found, ">u8").astype(np.uint64)


def _known(groups: _Groups, settled: pa.Table, name: str) -> Ints:
    """Return what groups [G] have in a column of what was dealt before, -1 where nothing."""
    place = pc.index_in(groups.ids, whole(settled["group_id"]))
    found = whole(settled[name]).take(place)
    return _numbers(found)


def _numbers(column: pa.Array) -> Ints:
    """Return whole numbers [N], -1 for nulls."""
    filled = pc.fill_null(column, _NONE)
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.int64)


def _known_splits(groups: _Groups, settled: pa.Table) -> Ints:
    """Return 1 for groups [G] that were held out before, 0 for those that were trained on, -1 for
    others."""
    split = settled.filter(settled["split"].is_valid())
    is_test = pc.equal(split["split"], "test").cast(pa.int32())
    known = pa.table({"group_id": split["group_id"], "is_test": is_test})
    return _known(groups, known, "is_test")


def _hold_out(groups: _Groups, known: Ints, share: float) -> Mask:
    """Hold out the share of each class's groups, those held out before first, leaving at least one
    to train on."""
    everybody = np.ones(len(groups.ids), bool)
    held_out = known == 1
    for name, own in groups.by_class(everybody):
        wanted = 0
        if name != _NONE:
            wanted = min(round(len(own) * share), len(own) - 1)
        missing = wanted - int(held_out[own].sum())
        new = own[known[own] == _NONE]
        held_out[new[: max(0, missing)]] = True
    return held_out


def _deal_folds(groups: _Groups, chosen: Mask, folds: int, fold: Ints) -> None:
    """Set the fold of each chosen group that has none: the one with the fewest groups of its class,
    then of all."""
    has_fold = chosen & (fold >= 0)
    total = np.bincount(fold[has_fold], minlength=folds)
    for _, own in groups.by_class(chosen):
        of_own = fold[own]
        counts = np.bincount(of_own[of_own >= 0], minlength=folds)
        new = own[of_own < 0]
        fold[new] = _least_first(len(new), counts, total)
        total += np.bincount(fold[new], minlength=folds)


def _least_first(count: int, own: Ints, total: Ints) -> Ints:
    """Deal `count` cards, each to the one with the fewest of their own, then of all."""
    numbers = range(len(own))
    heap = sorted(zip(own.tolist(), total.tolist(), numbers, strict=True))
    dealt = np.empty(count, np.int64)
    for card in range(count):
        mine, all, fold = heap[0]
        dealt[card] = fold
        heapq.heapreplace(heap, (mine + 1, all + 1, fold))
    return dealt


def _deal_parts(tracks: pa.Table, before: pa.Table, config: CatalogConfig) -> Ints:
    """Return the part of each track."""
    size = _part_size(len(tracks), before, config)
    ids = whole(tracks["track_id"])
    place = pc.index_in(ids, whole(before["track_id"]))
    part = _numbers(whole(before["part"]).take(place))
    last = pc.max(before["part"]).as_py() or 0
    in_last = int(np.count_nonzero(part == last))
    room = max(0, size - in_last)
    new = np.flatnonzero(part == _NONE)
    by_hash = np.argsort(hashes(ids.take(pa.array(new))), kind="stable")
    new = new[by_hash]
    # The first `room` of them go into the last part, the others into new ones.
    taken = size - room
    part[new] = last + (taken + np.arange(len(new))) // size
    return part


def _part_size(tracks: int, before: pa.Table, config: CatalogConfig) -> int:
    """Return how many tracks go into a part: in a folder with parts no more than before, so that it
    has parts of one size as it grows."""
    size = config.part_size(tracks)
    if config.tracks_per_part is not None or not len(before):
        return size
    largest = int(np.bincount(before["part"].to_numpy()).max())
    if largest > _USUAL_TRACKS:
        return largest
    return min(size, _USUAL_TRACKS)


def _equals(column: pa.ChunkedArray, value: str) -> Mask:
    is_equal = pc.fill_null(pc.equal(column, value), False)
    return np.asarray(is_equal.to_numpy())


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, which takes and look-ups are quickest on; that of a single
    chunk is not copied."""
    if column.num_chunks == 1:
        return column.chunk(0)
    if column.num_chunks:
        return pa.concat_arrays(column.chunks)
    return pa.array([], column.type)
