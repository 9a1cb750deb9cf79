"""The labels of a round: what each segment inherits, and the soft label that training learns once
the segments are split.

Method: see sssl/labels/split.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas import Catalog, Label, arrow_schema
from schemas.summaries import LabelsSummary, Pairs, count
from sssl.arrays import Flags, Floats, Indices, class_indices, column, inherited_indices
from sssl.labels.calibration import sharpen
from sssl.labels.settings import RelabelConfig
from sssl.labels.split import Split, apply_split

Names = NDArray[np.object_]


class Judged(NamedTuple):
    """What is thought of segments."""

    posterior: Floats  # [N, C]
    loss: Floats  # [N]: what they are split by
    consistency: Floats  # [N]


class Made(NamedTuple):
    """What a round makes of segments: columns [N] of `labels`, and soft labels [N, C]."""

    loss: Floats
    consistency: Floats
    clean: Floats
    partition: Names
    target: Floats
    weight: Floats
    reason: Names


def inherit(
    segments: pa.Table,
    tracks: Sequence[Catalog],
    classes: Sequence[str],
    corrected: Indices | None = None,
) -> pa.Table:
    """Give each segment its track's label, or the one that a listener gave it (`corrected` [N], -1
    where none did): the labels of round 0."""
    by_id = {track.track_id: track for track in tracks}
    rows = [by_id[track_id] for track_id in segments["track_id"].to_pylist()]
    number = len(rows)
    inherited = inherited_indices(segments, tracks, classes)
    is_unlabelled = inherited < 0
    locked = [row.locked for row in rows]
    is_locked = np.array(locked, dtype=bool) & ~is_unlabelled
    said = np.full(number, -1)
    if corrected is not None:
        said = corrected
    is_corrected = said >= 0
    # What a listener said of a segment comes before what the catalog says of its track.
    label = np.where(is_corrected, said, inherited)
    target = _one_hot(label, len(classes))
    partition = np.full(number, "confident", dtype=object)
    partition[is_unlabelled] = "unlabelled"
    partition[is_corrected | is_locked] = "locked"
    reason = np.full(number, "inherited", dtype=object)
    reason[is_unlabelled] = "no-label"
    reason[is_locked] = "locked"
    reason[is_corrected] = "corrected"
    is_trained = [row.split == "train" for row in rows]
    weight = np.array(is_trained, np.float64)
    nan = np.full(number, np.nan)  # nothing is scored yet
    made = Made(nan, nan, nan, partition, target, weight, reason)
    return _labels_table(segments, 0, classes, inherited, made)


def relabel(
    scores: pa.Table,
    judged: Judged,
    tracks: Sequence[Catalog],
    classes: Sequence[str],
    round: int,
    split: Split,
    config: RelabelConfig,
    corrected: Indices | None = None,
) -> pa.Table:
    """Apply a split to the scored segments of a part, given what is thought of them and what a
    listener said of each, as in `inherit`; rows stay aligned with the scores (and so with the
    segments)."""
    posterior, loss, consistency = judged
    base = inherit(scores, tracks, classes, corrected)
    inherited = class_indices(base["inherited_label"], classes)
    is_locked = np.array(base["partition"]) == "locked"
    is_unlabelled = (inherited < 0) & ~is_locked
    is_unscored = ~np.isfinite(loss) & ~is_unlabelled
    clean, is_noisy, is_capped = apply_split(split, inherited, loss, config.tau)
    is_left_alone = is_locked | is_unlabelled | is_unscored
    is_noisy[is_left_alone] = False

    # A capped segment keeps its label: blended by its clean probability it would follow the model
    # after all.
    is_fixed = is_locked | is_unscored | is_capped
    target = _targets(inherited, posterior, clean, is_noisy, is_fixed, config.temperature)
    said = class_indices(base["label"], classes)
    said_target = _one_hot(said, len(classes))
    target[is_locked] = said_target[is_locked]

    number = len(loss)
    partition = np.full(number, "confident", dtype=object)
    partition[is_noisy] = "noisy"
    partition[is_locked] = "locked"
    partition[is_unlabelled] = "unlabelled"

    reason = np.full(number, "low-loss", dtype=object)
    reason[is_capped] = "cap"
    if split.common.noisy is None:
        reason[:] = "no-split"
    reason[is_noisy] = "high-loss"
    reason[is_unscored] = "no-score"
    reason_before = np.array(base["reason"], dtype=object)
    is_as_before = is_unlabelled | is_locked
    reason[is_as_before] = reason_before[is_as_before]

    # What has no score cannot be judged and is not learned; what is noisy counts as configured.
    weight = column(base, "weight").copy()
    weight[is_noisy] *= config.noisy_weight
    weight[is_unscored] = 0.0
    made = Made(loss, consistency, clean, partition, target, weight, reason)
    return _labels_table(scores, round, classes, inherited, made)


def summarize_labels(
    labels: pa.Table, tracks: Sequence[Catalog], classes: Sequence[str]
) -> LabelsSummary:
    """Sum up the labels of a part: segments of train tracks by partition and class, and where their
    labels moved."""
    trained = {track.track_id for track in tracks if track.split == "train"}
    partitions: Counter[str] = Counter()
    by_class: Pairs = {}
    moved: Pairs = {}
    relabelled = 0
    columns = labels.select(["track_id", "partition", "inherited_label", "label"])
    for row in columns.to_pylist():
        partition = row["partition"]
        # These are counted whatever their split; nothing decided about them.
        if partition in ("unlabelled", "locked"):
            partitions[partition] += 1
        elif row["track_id"] in trained:
            partitions[partition] += 1
            relabelled += row["label"] != row["inherited_label"]
            count(by_class, partition, row["inherited_label"])
            count(moved, row["inherited_label"], row["label"])
    is_corrected = pc.equal(labels["reason"], "corrected")
    corrected = pc.sum(is_corrected).as_py()
    return LabelsSummary(
        classes=tuple(classes),
        segments=len(labels),
        relabelled=relabelled,
        by_class=by_class,
        moved=moved,
        corrected=corrected or 0,
        **partitions,
    )


def _targets(
    inherited: Indices,
    posterior: Floats,
    clean: Floats,
    noisy: Flags,
    fixed: Flags,
    temperature: float,
) -> Floats:
    """Return soft labels [N, C]: confident sharpen(w y + (1-w) p), noisy sharpen(p), fixed y; NaN
    where unlabelled."""
    one_hot = _one_hot(inherited, posterior.shape[1])
    target = one_hot.copy()
    confident = (inherited >= 0) & ~noisy & ~fixed
    w = clean[confident, None]
    inherited_part = w * one_hot[confident]
    believed_part = (1 - w) * posterior[confident]
    blended = inherited_part + believed_part
    target[confident] = sharpen(blended, temperature)
    believed = posterior[noisy]
    target[noisy] = sharpen(believed, temperature)
    return target


def _one_hot(indices: Indices, classes: int) -> Floats:
    """Return [N, C]; a row of NaN where the index is negative."""
    known = np.maximum(indices, 0)
    one_hot = np.eye(classes)[known]
    one_hot[indices < 0] = np.nan
    return np.asarray(one_hot)


def _labels_table(
    rows: pa.Table, round: int, classes: Sequence[str], inherited: Indices, made: Made
) -> pa.Table:
    """Put the columns of labels together; NaN is null."""
    names = np.array([*classes, None], dtype=object)  # the last is for -1
    has_no_target = np.asarray(np.isnan(made.target).any(axis=1))
    known = np.nan_to_num(made.target)
    label = np.argmax(known, axis=1)
    label[has_no_target] = -1
    soft_labels: list[Any] = list(made.target)
    for missing in np.flatnonzero(has_no_target):
        soft_labels[missing] = None
    weight = made.weight.copy()
    weight[has_no_target] = 0.0
    columns = {
        "track_id": rows["track_id"],
        "segment_index": rows["segment_index"],
        "round": np.full(len(rows), round),
        "inherited_label": names[inherited],
        "loss": _reals(made.loss),
        "consistency": _reals(made.consistency),
        "clean_probability": _reals(made.clean),
        "partition": made.partition,
        "label": names[label],
        "target": soft_labels,
        "weight": weight,
        "reason": made.reason,
    }
    return pa.table(columns, schema=arrow_schema(Label))


def _reals(values: Floats) -> pa.Array:
    """Return a column of what is finite."""
    return pa.array(values, pa.float32(), mask=~np.isfinite(values))
