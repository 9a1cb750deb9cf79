"""Labelled features copied once into shards, so that an epoch reads nothing it does not learn from.

A shard holds the labelled rows of some neighbouring parts. Its rows lie in layers: of each track a
layer has a few segments, drawn by a hash, and the next layer has others. So an epoch takes a few
segments of every track by reading one layer of each shard, and all rows by reading all layers.
What is taught of these rows changes with each round: it is a small table, with rows in that order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.summaries import ExamplesSummary, LedgerSummary
from sssl.arrays import class_indices, track_numbers
from sssl.audio.mel import MelConfig
from sssl.catalog.assign import hashes, whole
from sssl.store.tensors import log_mels, tensor_column, tensor_metadata

Ints = NDArray[np.int64]

OF_FEATURES = ("track_id", "segment_index", "log_mel")
OF_LABELS = ("track_id", "inherited_label", "partition", "label", "target", "weight")
"""Columns of the labels that say what is taught."""
_TAUGHT = pa.schema(
    [
        ("target", pa.list_(pa.float32())),
        ("weight", pa.float32()),
        ("noisy", pa.bool_()),
        ("fold", pa.int16()),
        ("track", pa.int64()),
    ]
)
_TRACK_BITS = 24
"""Bits for the number of a track within its part, which has far fewer than 16 million."""
_PART_BITS = _TRACK_BITS + 8
"""Bits below the number of the part: those, and up to 255 classes."""
PIECE_BYTES = 16 << 20
"""Size of a layer of a shard, about: it is read at once, and shuffled with some others."""


@dataclass(frozen=True)
class Sharding:
    """How labelled rows are laid out in shards."""

    parts: int
    """Neighbouring parts whose rows a shard holds."""
    layers: int
    """Layers of each shard."""
    chunk: int
    """Segments of a track that lie in one layer; a long track may have several chunks in it."""

    @classmethod
    def of(cls, ledger: LedgerSummary, parts: int, row_bytes: int, chunk: int) -> Sharding:
        """Lay out the labelled rows of a catalog.

        Both numbers are powers of two, so that a catalog that grows a little keeps its shards.
        """
        rows_of_a_part = ledger.labelled_segments / max(1, parts)
        layers = _power_of_two(ledger.segments_a_track / chunk)
        rows_of_a_layer = rows_of_a_part / layers
        bytes_of_a_layer = max(1.0, rows_of_a_layer * row_bytes)  # of one part
        parts_of_a_shard = _power_of_two(PIECE_BYTES / bytes_of_a_layer)
        return cls(parts_of_a_shard, layers, chunk)

    def shards(self, parts: int) -> int:
        """Return how many shards the parts of a catalog make."""
        return math.ceil(parts / self.parts)


class Labelled(NamedTuple):
    """The rows of labelled tracks of a part: their places in it [N], ids, and log-mels."""

    row: Ints
    track_id: pa.Array
    segment_index: pa.Array
    log_mel: NDArray[Any]


def labelled_rows(features: pa.Table, track_ids: Sequence[str]) -> Labelled:
    """Return the rows that a part's features have of some tracks."""
    wanted = pa.array(track_ids, pa.string())
    is_labelled = pc.is_in(features["track_id"], wanted)
    flags = is_labelled.to_numpy()
    row = np.flatnonzero(flags)
    wanted_rows = pa.array(row)
    ids = features.select(["track_id", "segment_index"]).take(wanted_rows)
    track_id = whole(ids["track_id"])
    segment_index = whole(ids["segment_index"])
    log_mel = log_mels(features)
    return Labelled(row, track_id, segment_index, log_mel[row])


def shard_table(parts: Mapping[int, Labelled], sharding: Sharding, cut: MelConfig) -> pa.Table:
    """Return the labelled rows of parts as a shard: by layer, within one in random order.

    `part` and `row` say where a row comes from. What is random follows from ids. Log-mels are as
    the cut has them.
    """
    rows = _of_parts(list(parts.values()), cut)
    lengths = [len(own.row) for own in parts.values()]
    numbers = list(parts)
    part = np.repeat(np.array(numbers, np.int32), lengths)
    # Random by name, so that a segment's place hangs on nothing but what it is.
    index = rows.segment_index.cast(pa.string())
    names = pc.binary_join_element_wise(rows.track_id, index, "/")
    chance = hashes(names)
    layer = layers_of(rows.track_id, chance, sharding)
    # By layer, which a reader takes as a slice; within one in random order, tracks mixed.
    order = np.lexsort((chance, layer))
    in_order = pa.array(order)
    columns = {}
    columns["layer"] = pa.array(layer[order], pa.int16())
    columns["part"] = pa.array(part[order], pa.int32())
    columns["row"] = pa.array(rows.row[order], pa.int32())
    columns["track_id"] = rows.track_id.take(in_order)
    columns["segment_index"] = rows.segment_index.take(in_order)
    columns["log_mel"] = tensor_column(rows.log_mel[order])
    metadata = dict(tensor_metadata("log_mel", cut.stored_as, cut.shape))
    return pa.table(columns).replace_schema_metadata(metadata)


def _of_parts(parts: Sequence[Labelled], cut: MelConfig) -> Labelled:
    """Return the rows of parts one after the other, those of none at all as empty columns."""
    rows = [np.empty(0, np.int64)]
    track_ids = [pa.array([], pa.string())]
    indices = [pa.array([], pa.int32())]
    log_mels_of = [np.empty((0, *cut.shape), cut.stored_as)]
    for own in parts:
        rows.append(own.row)
        track_ids.append(own.track_id)
        indices.append(own.segment_index)
        log_mels_of.append(own.log_mel)
    return Labelled(
        np.concatenate(rows),
        pa.concat_arrays(track_ids),
        pa.concat_arrays(indices),
        np.concatenate(log_mels_of),
    )


def layers_of(track_ids: pa.Array, chance: NDArray[np.uint64], sharding: Sharding) -> Ints:
    """Deal the rows [N] of tracks over layers: chunks of a track's segments in random order, each
    to the next layer.

    The first layer of a track is drawn by a hash of its id, so that layers are alike in size.
    """
    encoded = track_ids.dictionary_encode()
    track = encoded.indices.to_numpy().astype(np.int64)
    name_hash = hashes(encoded.dictionary)
    drawn = name_hash % np.uint64(sharding.layers)
    first = drawn.astype(np.int64)
    order = np.lexsort((chance, track))
    ordered = track[order]
    starts = np.searchsorted(ordered, np.arange(len(first)))
    rank = np.arange(len(track)) - starts[ordered]  # within its track, in random order
    place = np.empty(len(track), np.int64)  # of a segment among those of its track
    place[order] = rank
    chunk = place // sharding.chunk
    layer = first[track] + chunk
    return np.asarray(layer % sharding.layers)


def examples_table(
    shard: pa.Table,
    labels: Mapping[int, pa.Table],
    folds: Mapping[str, int],
    classes: Sequence[str],
) -> pa.Table:
    """Return what a round teaches of a shard's rows, in their order; `labels` are of its parts.

    Raises:
        ValueError: labels and features of a part are not of the same rows.
    """
    part = shard["part"].to_numpy()
    row = shard["row"].to_numpy()
    # Labels come by part, so rows are looked up part by part and put back in order at the end.
    by_part = np.argsort(part, kind="stable")
    part_in_order = part[by_part]
    pieces = [_TAUGHT.empty_table()]
    for number, table in sorted(labels.items()):
        is_own = part_in_order == number
        own = by_part[is_own]
        wanted = pa.array(row[own])
        rows = table.select(OF_LABELS).take(wanted)
        expected = shard["track_id"].take(pa.array(own))
        if not rows["track_id"].equals(expected):
            raise ValueError(f"part {number}: labels are not aligned with the features")
        pieces.append(_taught(rows, number, folds, classes))
    # From the order of parts back to the order of the shard.
    back = np.argsort(by_part, kind="stable")
    taught = pa.concat_tables(pieces)
    taught = taught.take(pa.array(back))
    return taught.add_column(0, "layer", shard["layer"])


def _taught(
    rows: pa.Table, part: int, folds: Mapping[str, int], classes: Sequence[str]
) -> pa.Table:
    track_ids = rows["track_id"].to_pylist()
    fold = [folds[track_id] for track_id in track_ids]
    track = catalog_numbers(rows, part, classes)
    columns = {}
    columns["target"] = rows["target"].cast(_TAUGHT.field("target").type)
    columns["weight"] = rows["weight"].cast(pa.float32())
    columns["noisy"] = pc.equal(rows["partition"], "noisy")
    columns["fold"] = pa.array(fold, pa.int16())
    columns["track"] = pa.array(track)
    return pa.table(columns, schema=_TAUGHT)


def catalog_numbers(labels: pa.Table, part: int, classes: Sequence[str]) -> Ints:
    """Return for the rows [N] of a part's labels one number per track of the catalog, and others
    for what a listener took from it."""
    own = track_numbers(labels)
    another = _corrected_to(labels, classes) << _TRACK_BITS
    of_part = part << _PART_BITS
    return np.asarray(own + another + of_part)


def _corrected_to(labels: pa.Table, classes: Sequence[str]) -> Ints:
    """Return for each row [N] 0, or 1 + the class that a listener gave it in the place of the
    track's: such rows share bags with their like only, as if they were a track of their own."""
    said = class_indices(labels["label"], classes)
    inherited = class_indices(labels["inherited_label"], classes)
    # Only a listener locks a segment to another class than its track's.
    is_locked = pc.equal(labels["partition"], "locked").to_numpy()
    is_other = said != inherited
    return np.where(is_locked & is_other, said + 1, 0)


def summarize_examples(examples: pa.Table, classes: Sequence[str], bag: int) -> ExamplesSummary:
    """Count the bags of a shard by layer and fold, and sum up what is taught."""
    is_taught = pc.greater(examples["weight"], 0)
    used = examples.filter(is_taught)
    weight = used["weight"].to_numpy()
    flat = used["target"].combine_chunks().flatten()
    target = np.asarray(flat).reshape(-1, len(classes))
    of_row = weight[:, None].astype(np.float64)
    weighted = target * of_row
    mass = weighted.sum(axis=0).tolist()
    by_class = dict(zip(classes, mass, strict=True))
    return ExamplesSummary(segments=len(used), bags=_count_bags(used, bag), mass=by_class)


def _count_bags(used: pa.Table, bag: int) -> dict[int, dict[int, int]]:
    """Count bags of so many rows by layer and fold."""
    # Rows that may share a bag, as `sssl.model.examples` deals them.
    names = ["layer", "fold", "track", "noisy"]
    alike = used.select(names).group_by(names, use_threads=False)
    counted = alike.aggregate([([], "count_all")])
    bags: dict[int, dict[int, int]] = {}
    for row in counted.to_pylist():
        layer = row["layer"]
        fold = row["fold"]
        own = math.ceil(row["count_all"] / bag)
        of_layer = bags.setdefault(layer, {})
        of_layer.setdefault(fold, 0)
        of_layer[fold] += own
    return bags


def _power_of_two(most: float) -> int:
    """Return the largest power of two up to a number, at least 1."""
    at_least = max(1.0, most)
    exponent = math.floor(math.log2(at_least))
    return 1 << exponent
