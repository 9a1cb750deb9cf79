"""Split segments into confident and noisy by their loss, and give each the soft label that training
learns.

Method: Sun, Zhang, Zhou, Li, "Semi-Supervised Self-Learning Enhanced Music Emotion Recognition",
2024, as `paper`; `guarded` adds what keeps the recipe from harming a model where labels are right
or a class is merely hard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas import Catalog, Label, arrow_schema
from schemas.summaries import LabelsSummary, Pairs, count
from sssl.arrays import Flags, Floats, Indices, class_indices, column, inherited_indices, posteriors
from sssl.config import require
from sssl.labels import mixture as mix
from sssl.labels.calibration import sharpen
from sssl.labels.evidence import Evidence, EvidenceConfig, Segments

Names = NDArray[np.object_]
# The quantile that a class is located by: up to three quarters of its labels may be wrong.
_EASY = 0.25


@dataclass(frozen=True)
class RelabelConfig:
    """How a round splits and relabels."""

    tau: float = 0.5
    """A segment is confident if its clean probability is above this."""
    temperature: float = 0.5
    """Sharpening of soft labels: p^(1/T) / sum; 1 leaves them as they are."""
    axis: mix.Axis = "logit"
    """Axis of the mixture: `loss` as in the paper, or `logit`, on which correct labels are closer
    to normal."""
    peaked: bool = True
    """Let the losses of right labels peak more and reach further than one Gaussian does, and give
    the noisy component the same reach; otherwise two Gaussians of any width, as in the paper."""
    clip_quantile: float = 0.005
    """Losses beyond this quantile on either side are clipped before the fit; 0 turns it off."""
    per_class_prior: float | None = 300.0
    """Move the mixture to where each class's easy segments lie, for classes are not equally hard:
    half of the way for a class of so many segments, all of it for a large one; none: one mixture
    for all."""
    min_separation: float | None = 1.5
    """Relabel nothing unless the components are so far apart (Ashman's D) and BIC prefers two;
    none: always split. Only asked where `min_agreement` is not, or the sound of tracks does not
    tell."""
    monotone: bool = True
    """Keep the clean probability from rising with the loss."""
    max_noisy_share: float | None = 0.4
    """Call at most this share of a class's segments noisy, those with the highest loss; none: no
    cap."""
    noisy_weight: float = 0.0
    """Weight of noisy segments in training, labelled with what the model thinks of them; 0 sets
    them aside, for a weak model would learn its own mistakes."""
    evidence: EvidenceConfig = field(default_factory=EvidenceConfig)

    def __post_init__(self) -> None:
        require(0 <= self.tau <= 1, "tau", self.tau, "0 to 1")
        require(self.temperature > 0, "temperature", self.temperature, "above 0")
        # From half on nothing is left between the two quantiles.
        clipped = self.clip_quantile
        is_below_half = 0 <= clipped < 0.5
        require(is_below_half, "clip_quantile", clipped, "0 to below 0.5")
        # With 0 a class has a place of its own, however few its segments are.
        prior = self.per_class_prior
        is_count = prior is None or prior >= 0
        require(is_count, "per_class_prior", prior, "0 or more, or None")
        # A share, as somebody may give a percentage.
        cap = self.max_noisy_share
        is_share = cap is None or 0 <= cap <= 1
        require(is_share, "max_noisy_share", cap, "0 to 1, or None")
        require(self.noisy_weight >= 0, "noisy_weight", self.noisy_weight, "0 or more")


@dataclass(frozen=True)
class ClassSplit:
    """The split of one class: clean probability by bin [BINS], and the first bin that the cap lets
    be noisy."""

    mixture: mix.Mixture
    clean_probability: Floats
    first_allowed_bin: int


@dataclass(frozen=True)
class Split:
    """The fitted split of a round, by class; `common` is the mixture over all classes."""

    axis: mix.Axis
    common: mix.Mixture
    by_class: tuple[ClassSplit, ...]


@dataclass(frozen=True)
class ReadEvidence:
    """How the evidence of a round was read: see `Evidence`."""

    temperature: float = 1.0
    unit: float = 0.0
    neighbours: float = 0.0
    agreement: float | None = None
    in_parts: bool | None = None


class Made(NamedTuple):
    """What a round makes of segments: columns [N] of `labels`, and soft labels [N, C]."""

    loss: Floats
    consistency: Floats
    clean: Floats
    partition: Names
    target: Floats
    weight: Floats
    reason: Names


@dataclass(frozen=True)
class SplitSummary:
    """What the manifest of a round's labels has of its split: the mixture over all classes and that
    of each, and the evidence. All of it is empty for round 0."""

    common: mix.Mixture | None = None
    mixtures: dict[str, mix.Mixture] = field(default_factory=dict)
    evidence: ReadEvidence = field(default_factory=ReadEvidence)

    @classmethod
    def of(cls, split: Split, classes: Sequence[str], evidence: Evidence) -> SplitSummary:
        """Describe a fitted split."""
        mixtures = {name: own.mixture for name, own in zip(classes, split.by_class, strict=True)}
        names = [field.name for field in fields(ReadEvidence)]
        read = {name: getattr(evidence, name) for name in names}
        return cls(split.common, mixtures, ReadEvidence(**read))

    @property
    def components(self) -> int | None:
        """How many components the mixture has; None where nothing was split."""
        if self.common is None:
            return None
        if self.common.noisy is None:
            return 1
        return 2


def fit_split(
    histograms: Indices,
    config: RelabelConfig,
    in_parts: bool | None = None,
    common: mix.Mixture | None = None,
) -> Split:
    """Fit the round's split to the loss histograms [C, BINS] of train tracks' segments, given
    whether labels are wrong in parts of tracks, if that is known, and the mixture over all classes,
    if it was fitted to them before.

    Classes without a loss take the common mixture. Without any loss at all nothing is noisy.
    """
    # One loss beyond all others must not become a component of its own.
    low = config.clip_quantile
    high = 1 - config.clip_quantile
    counts = [mix.clip_quantiles(own.astype(float), low, high) for own in histograms]
    pooled = np.sum(counts, axis=0)
    if not pooled.sum():
        return _nothing_noisy(config.axis, len(counts))
    offsets = [_offset(own, pooled, config.per_class_prior) for own in counts]
    pairs = list(zip(counts, offsets, strict=True))
    if common is None:
        # Aligned, classes that are merely harder do not look like wrong labels of the easy ones.
        shifted = [mix.shift(own, -bins) for own, bins in pairs]
        aligned = np.sum(shifted, axis=0)
        common = _fit(aligned, config, in_parts)
    by_class = [_split_class(own, common, bins, config) for own, bins in pairs]
    return Split(config.axis, common, tuple(by_class))


def _nothing_noisy(axis: mix.Axis, classes: int) -> Split:
    """Return the split of a round without a loss: every segment is confident."""
    one_component = mix.Mixture(axis, mix.Component(1.0, 0.0, 1.0), None)
    of_class = ClassSplit(one_component, np.ones(mix.BINS), mix.BINS)
    return Split(axis, one_component, (of_class,) * classes)


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
    inherited = inherited_indices(segments, tracks, classes)
    is_unlabelled = inherited < 0
    is_locked = np.array([row.locked for row in rows], dtype=bool) & ~is_unlabelled
    said = np.full(len(rows), -1) if corrected is None else corrected
    is_corrected = said >= 0
    # What a listener said of a segment comes before what the catalog says of its track.
    label = np.where(is_corrected, said, inherited)
    target = _one_hot(label, len(classes))
    partition = np.full(len(rows), "confident", dtype=object)
    partition[is_unlabelled] = "unlabelled"
    partition[is_corrected | is_locked] = "locked"
    reason = np.full(len(rows), "inherited", dtype=object)
    reason[is_unlabelled] = "no-label"
    reason[is_locked] = "locked"
    reason[is_corrected] = "corrected"
    is_trained = [row.split == "train" for row in rows]
    weight = np.array(is_trained, np.float64)
    nan = np.full(len(rows), np.nan)  # nothing is scored yet
    made = Made(nan, nan, nan, partition, target, weight, reason)
    return _labels_table(segments, 0, classes, inherited, made)


def relabel(
    scores: pa.Table,
    loss: Floats,
    consistency: Floats,
    tracks: Sequence[Catalog],
    classes: Sequence[str],
    round: int,
    split: Split,
    config: RelabelConfig,
    corrected: Indices | None = None,
) -> pa.Table:
    """Apply a split to the scored segments of a part, given the loss [N] that each is split by, its
    consistency [N] and what a listener said of it, as in `inherit`; rows stay aligned with the
    scores (and so with the segments)."""
    base = inherit(scores, tracks, classes, corrected)
    inherited = class_indices(base["inherited_label"], classes)
    posterior = posteriors(scores, len(classes))
    is_locked = np.array(base["partition"]) == "locked"
    is_unlabelled = (inherited < 0) & ~is_locked
    is_unscored = ~np.isfinite(loss) & ~is_unlabelled
    clean, is_noisy, is_capped = _apply(split, inherited, loss, config.tau)
    is_noisy &= ~is_locked & ~is_unlabelled & ~is_unscored

    # A capped segment keeps its label: blended by its clean probability it would follow the model
    # after all.
    is_fixed = is_locked | is_unscored | is_capped
    target = _targets(inherited, posterior, clean, is_noisy, is_fixed, config.temperature)
    said = _one_hot(class_indices(base["label"], classes), len(classes))
    target[is_locked] = said[is_locked]

    partition = np.full(len(loss), "confident", dtype=object)
    partition[is_noisy] = "noisy"
    partition[is_locked] = "locked"
    partition[is_unlabelled] = "unlabelled"

    reason = np.full(len(loss), "low-loss", dtype=object)
    reason[is_capped] = "cap"
    if split.common.noisy is None:
        reason[:] = "no-split"
    reason[is_noisy] = "high-loss"
    reason[is_unscored] = "no-score"
    is_as_before = is_unlabelled | is_locked
    reason[is_as_before] = np.array(base["reason"], dtype=object)[is_as_before]

    # What has no score cannot be judged and is not learned; what is noisy counts as configured.
    factor = np.where(is_noisy, config.noisy_weight, 1.0)
    weight = column(base, "weight") * factor * ~is_unscored
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
    return LabelsSummary(
        classes=tuple(classes),
        segments=len(labels),
        relabelled=relabelled,
        by_class=by_class,
        moved=moved,
        corrected=pc.sum(is_corrected).as_py() or 0,
        **partitions,
    )


def loss_histograms(loss: Floats, segments: Segments, axis: mix.Axis) -> Indices:
    """Count the losses [N] of a part's segments by inherited label [C, BINS]: of those that
    evidence is fitted to."""
    counts = []
    for number in range(segments.posterior.shape[1]):
        own = segments.fitted & (segments.label == number)
        counts.append(mix.histogram(loss[own], axis))
    return np.stack(counts)


def _fit(counts: Floats, config: RelabelConfig, in_parts: bool | None) -> mix.Mixture:
    """Fit one component and two to a histogram [BINS], and return the fit that holds."""
    if config.peaked:
        one = mix.fit_peaked(counts, config.axis, 1)
        two = mix.fit_peaked(counts, config.axis, 2)
    else:
        one = mix.fit_one(counts, config.axis)
        two = mix.fit_two(counts, config.axis)
    if in_parts is not None:
        # Two heaps need not be far apart then, but be there.
        is_split = in_parts and mix.prefers_two(counts, one, two)
    elif config.min_separation is None:
        is_split = True
    else:
        is_split = mix.prefers_two(counts, one, two, config.min_separation)
    if is_split:
        return two
    return one


def _offset(own: Floats, pooled: Floats, prior: float | None) -> int:
    """Return by how many bins a class's easy segments lie above those of all.

    It is shrunk to 0 where the class is small.
    """
    segments = own.sum()
    if prior is None or not segments:
        return 0
    distance = mix.quantile_bin(own, _EASY) - mix.quantile_bin(pooled, _EASY)
    return round(distance * segments / (segments + prior))


def _split_class(
    own: Floats, common: mix.Mixture, offset: int, config: RelabelConfig
) -> ClassSplit:
    distance = offset * mix.bin_width(config.axis)
    fitted = common.shifted(distance)
    clean = fitted.clean_probability()
    if config.monotone:
        mean = np.array(fitted.confident.mean)
        peak = mix.bin_of(mean, config.axis)
        clean = mix.monotone(clean, int(peak))
    first_allowed = _first_allowed(own, config.max_noisy_share)
    return ClassSplit(fitted, clean, first_allowed)


def _first(condition: Flags) -> int:
    if condition.any():
        return int(np.argmax(condition))
    return mix.BINS


def _first_allowed(own: Floats, max_share: float | None) -> int:
    """Return the first bin from which on no more than `max_share` of the class's segments lie."""
    segments = own.sum()
    if max_share is None or not segments:
        return 0
    from_bin_on = own[::-1].cumsum()[::-1]  # how many segments lie in a bin or above it
    return _first(from_bin_on / segments <= max_share)


def _apply(
    split: Split, inherited: Indices, loss: Floats, tau: float
) -> tuple[Floats, Flags, Flags]:
    """Return clean probability [N], noisy [N] and capped [N] (noisy but for the cap) of
    segments."""
    known = (inherited >= 0) & np.isfinite(loss)
    clean = np.full(len(loss), np.nan)
    noisy = np.zeros(len(loss), bool)
    capped = np.zeros(len(loss), bool)
    on_axis = mix.to_axis(np.where(known, loss, 0.0), split.axis)
    bins = mix.bin_of(on_axis, split.axis)
    for number, of_class in enumerate(split.by_class):
        own = known & (inherited == number)
        own_bins = bins[own]
        clean[own] = of_class.clean_probability[own_bins]
        is_unclean = clean[own] <= tau
        is_allowed = own_bins >= of_class.first_allowed_bin
        noisy[own] = is_unclean & is_allowed
        capped[own] = is_unclean & ~is_allowed
    return clean, noisy, capped


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
    blended = inherited_part + (1 - w) * posterior[confident]
    target[confident] = sharpen(blended, temperature)
    target[noisy] = sharpen(posterior[noisy], temperature)
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
    likeliest = np.argmax(np.nan_to_num(made.target), axis=1)
    label = np.where(has_no_target, -1, likeliest)
    soft_labels: list[NDArray[np.float32] | None] = []
    for row, is_missing in zip(made.target.astype(np.float32), has_no_target, strict=True):
        soft_labels.append(None if is_missing else row)
    weight = np.where(has_no_target, 0.0, made.weight)
    columns = {
        "track_id": rows["track_id"],
        "segment_index": rows["segment_index"],
        "round": pa.array(np.full(len(rows), round), pa.int32()),
        "inherited_label": pa.array(names[inherited], pa.string()),
        "loss": _reals(made.loss),
        "consistency": _reals(made.consistency),
        "clean_probability": _reals(made.clean),
        "partition": pa.array(made.partition, pa.string()),
        "label": pa.array(names[label], pa.string()),
        "target": pa.array(soft_labels, pa.list_(pa.float32())),
        "weight": pa.array(weight, pa.float32()),
        "reason": pa.array(made.reason, pa.string()),
    }
    return pa.table(columns, schema=arrow_schema(Label))


def _reals(values: Floats) -> pa.Array:
    """Return a column of what is finite."""
    return pa.array(values, pa.float32(), mask=~np.isfinite(values))
