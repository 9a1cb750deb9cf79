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
        rows_a_part = ledger.labelled_segments / max(1, parts)
        layers = _power_of_two(ledger.segments_a_track / chunk)
        bytes_of_a_part = max(1.0, rows_a_part * row_bytes / layers)
        return cls(_power_of_two(PIECE_BYTES / bytes_of_a_part), layers, chunk)

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
    is_labelled = pc.is_in(features["track_id"], pa.array(track_ids, pa.string()))
    row = np.flatnonzero(is_labelled.to_numpy())
    ids = features.select(["track_id", "segment_index"]).take(pa.array(row))
    columns = whole(ids["track_id"]), whole(ids["segment_index"])
    return Labelled(row, *columns, log_mels(features)[row])


def shard_table(
    parts: Mapping[int, Labelled], sharding: Sharding, shape: tuple[int, ...]
) -> pa.Table:
    """Return the labelled rows of parts as a shard: by layer, within one in random order.

    `part` and `row` say where a row comes from. What is random follows from ids. Log-mels are of
    one `shape`.
    """
    rows = list(parts.values())
    track_id = pa.concat_arrays([pa.array([], pa.string()), *(own.track_id for own in rows)])
    index = pa.concat_arrays([pa.array([], pa.int32()), *(own.segment_index for own in rows)])
    log_mel = np.concatenate([np.empty((0, *shape), np.float16), *(own.log_mel for own in rows)])
    names = pc.binary_join_element_wise(track_id, index.cast(pa.string()), "/")
    chance = hashes(names)
    layer = layers_of(track_id, chance, sharding)
    order = np.lexsort((chance, layer))
    part = np.repeat(np.array(list(parts), np.int32), [len(own.row) for own in rows])
    row = np.concatenate([np.empty(0, np.int64), *(own.row for own in rows)])
    columns = {
        "layer": pa.array(layer[order], pa.int16()),
        "part": pa.array(part[order], pa.int32()),
        "row": pa.array(row[order], pa.int32()),
        "track_id": track_id.take(pa.array(order)),
        "segment_index": index.take(pa.array(order)),
        "log_mel": tensor_column(log_mel[order]),
    }
    metadata = dict(tensor_metadata("log_mel", "float16", shape))
    return pa.table(columns).replace_schema_metadata(metadata)


def layers_of(track_ids: pa.Array, chance: NDArray[np.uint64], sharding: Sharding) -> Ints:
    """Deal the rows [N] of tracks over layers: chunks of a track's segments in random order, each
    to the next layer.

    The first layer of a track is drawn by a hash of its id, so that layers are alike in size.
    """
    encoded = track_ids.dictionary_encode()
    track = encoded.indices.to_numpy().astype(np.int64)
    first = (hashes(encoded.dictionary) % np.uint64(sharding.layers)).astype(np.int64)
    order = np.lexsort((chance, track))
    starts = np.searchsorted(track[order], np.arange(len(first)))
    place = np.empty(len(track), np.int64)
    place[order] = np.arange(len(track)) - starts[track[order]]
    return np.asarray((first[track] + place // sharding.chunk) % sharding.layers)


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
    part, row = shard["part"].to_numpy(), shard["row"].to_numpy()
    by_part = np.argsort(part, kind="stable")
    pieces = [_TAUGHT.empty_table()]
    for number, table in sorted(labels.items()):
        own = by_part[part[by_part] == number]
        rows = table.select(OF_LABELS).take(pa.array(row[own]))
        if not rows["track_id"].equals(shard["track_id"].take(pa.array(own))):
            raise ValueError(f"part {number}: labels are not aligned with the features")
        pieces.append(_taught(rows, number, folds, classes))
    back = np.argsort(by_part, kind="stable")
    taught = pa.concat_tables(pieces).take(pa.array(back))
    return taught.add_column(0, "layer", shard["layer"])


def _taught(
    rows: pa.Table, part: int, folds: Mapping[str, int], classes: Sequence[str]
) -> pa.Table:
    # One number per track of the catalog, and others for what a listener took from it.
    own = track_numbers(rows)
    another = corrected_to(rows, classes) << _TRACK_BITS
    track = own + another + (part << _PART_BITS)
    columns = {
        "target": rows["target"].cast(pa.list_(pa.float32())),
        "weight": rows["weight"].cast(pa.float32()),
        "noisy": pc.equal(rows["partition"], "noisy"),
        "fold": pa.array([folds[one] for one in rows["track_id"].to_pylist()], pa.int16()),
        "track": pa.array(track),
    }
    return pa.table(columns, schema=_TAUGHT)


def corrected_to(labels: pa.Table, classes: Sequence[str]) -> Ints:
    """Return for each row [N] 0, or 1 + the class that a listener gave it in the place of the
    track's: such rows share bags with their like only, as if they were a track of their own."""
    said = class_indices(labels["label"], classes)
    is_locked = pc.equal(labels["partition"], "locked").to_numpy()
    is_another = (said != class_indices(labels["inherited_label"], classes)) & is_locked
    return np.where(is_another, said + 1, 0)


def summarize_examples(examples: pa.Table, classes: Sequence[str], bag: int) -> ExamplesSummary:
    """Count the bags of a shard by layer and fold, and sum up what is taught."""
    used = examples.filter(pc.greater(examples["weight"], 0))
    weight = used["weight"].to_numpy().astype(np.float64)
    target = np.asarray(used["target"].combine_chunks().flatten()).reshape(-1, len(classes))
    mass = (target * weight[:, None]).sum(axis=0)
    names = ["layer", "fold", "track", "noisy"]
    alike = used.select(names).group_by(names, use_threads=False).aggregate([([], "count_all")])
    bags: dict[int, dict[int, int]] = {}
    counts = (alike[name].to_pylist() for name in ("layer", "fold", "count_all"))
    for layer, fold, count in zip(*counts, strict=True):
        of_layer = bags.setdefault(layer, {})
        of_layer[fold] = of_layer.get(fold, 0) + math.ceil(count / bag)
    by_class = dict(zip(classes, mass.tolist(), strict=True))
    return ExamplesSummary(segments=len(used), bags=bags, mass=by_class)


def _power_of_two(most: float) -> int:
    """Return the largest power of two up to a number, at least 1."""
    return 1 << math.floor(math.log2(max(1.0, most)))
