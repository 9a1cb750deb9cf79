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

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas import Catalog, Label, arrow_schema
from schemas.summaries import LabelsSummary, Pairs, count
from sssl.arrays import Floats, class_indices, column, inherited_indices, posteriors
from sssl.labels import mixture as mix
from sssl.labels.calibration import sharpen
from sssl.labels.evidence import Evidence, EvidenceConfig, Segments

Indices = NDArray[np.int64]
_EASY = (
    0.25  # the quantile that a class is located by: up to three quarters of its labels may be wrong
)


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
        read = {field.name: getattr(evidence, field.name) for field in fields(ReadEvidence)}
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
    histograms: NDArray[np.int64], config: RelabelConfig, in_parts: bool | None = None
) -> Split:
    """Fit the round's split to the loss histograms [C, BINS] of train tracks' segments, given
    whether labels are wrong in parts of tracks, if that is known.

    Classes without a loss take the common mixture. Without any loss at all nothing is noisy.
    """
    low = config.clip_quantile
    high = 1 - config.clip_quantile
    counts = [mix.clip_quantiles(own.astype(float), low, high) for own in histograms]
    pooled = np.sum(counts, axis=0)
    if not pooled.sum():
        return _nothing_noisy(config.axis, len(counts))
    offsets = [_offset(own, pooled, config.per_class_prior) for own in counts]
    aligned = [mix.shift(own, -bins) for own, bins in zip(counts, offsets, strict=True)]
    common = _fit(np.sum(aligned, axis=0), config, in_parts)
    by_class = [
        _split_class(own, common, bins, config) for own, bins in zip(counts, offsets, strict=True)
    ]
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
    unlabelled = inherited < 0
    locked = np.array([row.locked for row in rows], dtype=bool) & ~unlabelled
    said = np.full(len(rows), -1) if corrected is None else corrected
    is_corrected = said >= 0
    partition = np.select(
        [is_corrected | locked, unlabelled], ["locked", "unlabelled"], "confident"
    )
    reason = np.select(
        [is_corrected, locked, unlabelled], ["corrected", "locked", "no-label"], "inherited"
    )
    target = _one_hot(np.where(is_corrected, said, inherited), len(classes))
    weight = np.array([float(row.split == "train") for row in rows], dtype=np.float64)
    nan = np.full(len(rows), np.nan)
    return _labels_table(
        segments, 0, classes, inherited, nan, nan, nan, partition, target, weight, reason
    )


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
    locked = np.array(base["partition"]) == "locked"
    unlabelled = (inherited < 0) & ~locked
    unscored = ~np.isfinite(loss) & ~unlabelled
    clean, noisy, capped = _apply(split, inherited, loss, config.tau)
    noisy &= ~locked & ~unlabelled & ~unscored

    # A capped segment keeps its label: blended by its clean probability it would follow the model
    # after all.
    target = _targets(
        inherited, posterior, clean, noisy, locked | unscored | capped, config.temperature
    )
    target[locked] = _one_hot(class_indices(base["label"], classes), len(classes))[locked]
    partition = np.select(
        [unlabelled, locked, noisy], ["unlabelled", "locked", "noisy"], "confident"
    )
    kept = np.where(capped, "cap", "low-loss")
    if split.common.noisy is None:
        kept = np.full(len(loss), "no-split")
    of_base = np.array(base["reason"])
    reason = np.select(
        [unlabelled | locked, unscored, noisy], [of_base, "no-score", "high-loss"], kept
    )
    weight = column(base, "weight") * np.where(noisy, config.noisy_weight, 1.0) * ~unscored
    return _labels_table(
        scores,
        round,
        classes,
        inherited,
        loss,
        consistency,
        clean,
        partition,
        target,
        weight,
        reason,
    )


def summarize_labels(
    labels: pa.Table, tracks: Sequence[Catalog], classes: Sequence[str]
) -> LabelsSummary:
    """Sum up the labels of a part: segments of train tracks by partition and class, and where their
    labels moved."""
    trained = {track.track_id for track in tracks if track.split == "train"}
    partitions: Counter[str] = Counter()
    by_class: Pairs = {}
    moved: Pairs = {}
    columns = [
        labels[name].to_pylist() for name in ("track_id", "partition", "inherited_label", "label")
    ]
    corrected = pc.sum(pc.equal(labels["reason"], "corrected")).as_py() or 0
    for track_id, partition, inherited, label in zip(*columns, strict=True):
        if partition in ("unlabelled", "locked"):
            partitions[partition] += 1
        elif track_id in trained:
            partitions[partition] += 1
            count(by_class, partition, inherited)
            count(moved, inherited, label)
    stayed = sum(by_label.get(inherited, 0) for inherited, by_label in moved.items())
    return LabelsSummary(
        classes=tuple(classes),
        segments=len(labels),
        relabelled=partitions["confident"] + partitions["noisy"] - stayed,
        by_class=by_class,
        moved=moved,
        corrected=corrected,
        **partitions,
    )


def loss_histograms(loss: Floats, segments: Segments, axis: mix.Axis) -> NDArray[np.int64]:
    """Count the losses [N] of a part's segments by inherited label [C, BINS]: of those that
    evidence is fitted to."""
    of_class = [segments.fitted & (segments.label == c) for c in range(segments.posterior.shape[1])]
    return np.stack([mix.histogram(loss[own], axis) for own in of_class])


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
    fitted = common.shifted(offset * mix.bin_width(config.axis))
    clean = fitted.clean_probability()
    if config.monotone:
        peak = mix.bin_of(np.array(fitted.confident.mean), config.axis)
        clean = mix.monotone(clean, int(peak))
    return ClassSplit(fitted, clean, _first_allowed(own, config.max_noisy_share))


def _first(condition: NDArray[np.bool_]) -> int:
    if condition.any():
        return int(np.argmax(condition))
    return mix.BINS


def _first_allowed(own: Floats, max_share: float | None) -> int:
    """Return the first bin from which on no more than `max_share` of the class's segments lie."""
    if max_share is None or not own.sum():
        return 0
    from_bin_on = own[::-1].cumsum()[::-1]
    return _first(from_bin_on / own.sum() <= max_share)


def _apply(
    split: Split, inherited: NDArray[np.int64], loss: Floats, tau: float
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return clean probability [N], noisy [N] and capped [N] (noisy but for the cap) of
    segments."""
    known = (inherited >= 0) & np.isfinite(loss)
    clean = np.full(len(loss), np.nan)
    noisy = np.zeros(len(loss), bool)
    capped = np.zeros(len(loss), bool)
    on_axis = mix.to_axis(np.where(known, loss, 0.0), split.axis)
    bins = mix.bin_of(on_axis, split.axis)
    for c, of_class in enumerate(split.by_class):
        own = known & (inherited == c)
        clean[own] = of_class.clean_probability[bins[own]]
        unclean = clean[own] <= tau
        allowed = bins[own] >= of_class.first_allowed_bin
        noisy[own] = unclean & allowed
        capped[own] = unclean & ~allowed
    return clean, noisy, capped


def _targets(
    inherited: NDArray[np.int64],
    posterior: Floats,
    clean: Floats,
    noisy: NDArray[np.bool_],
    fixed: NDArray[np.bool_],
    temperature: float,
) -> Floats:
    """Return soft labels [N, C]: confident sharpen(w y + (1-w) p), noisy sharpen(p), fixed y; NaN
    where unlabelled."""
    one_hot = _one_hot(inherited, posterior.shape[1])
    target = one_hot.copy()
    confident = (inherited >= 0) & ~noisy & ~fixed
    w = clean[confident, None]
    target[confident] = sharpen(
        w * one_hot[confident] + (1 - w) * posterior[confident], temperature
    )
    target[noisy] = sharpen(posterior[noisy], temperature)
    return target


def _one_hot(indices: NDArray[np.int64], classes: int) -> Floats:
    """Return [N, C]; a row of NaN where the index is negative."""
    one_hot = np.eye(classes)[np.maximum(indices, 0)]
    one_hot[indices < 0] = np.nan
    return np.asarray(one_hot)


def _labels_table(
    rows: pa.Table,
    round: int,
    classes: Sequence[str],
    inherited: NDArray[np.int64],
    loss: Floats,
    consistency: Floats,
    clean: Floats,
    partition: NDArray[np.str_],
    target: Floats,
    weight: Floats,
    reason: NDArray[np.str_],
) -> pa.Table:
    """Put the columns [N] of labels together, `target` [N, C]; NaN is null."""
    names = np.array([*classes, None], dtype=object)
    unlabelled = np.asarray(np.isnan(target).any(axis=1))
    likeliest = np.argmax(np.nan_to_num(target), axis=1)
    label = np.where(unlabelled, len(classes), likeliest)
    soft_labels = [
        None if none else row
        for none, row in zip(unlabelled, target.astype(np.float32), strict=True)
    ]
    return pa.table(
        {
            "track_id": rows["track_id"],
            "segment_index": rows["segment_index"],
            "round": pa.array(np.full(len(rows), round), pa.int32()),
            "inherited_label": pa.array(names[inherited], pa.string()),
            "loss": pa.array(loss, pa.float32(), mask=~np.isfinite(loss)),
            "consistency": pa.array(consistency, pa.float32(), mask=~np.isfinite(consistency)),
            "clean_probability": pa.array(clean, pa.float32(), mask=~np.isfinite(clean)),
            "partition": pa.array(partition.astype(object), pa.string()),
            "label": pa.array(names[label], pa.string()),
            "target": pa.array(soft_labels, pa.list_(pa.float32())),
            "weight": pa.array(np.where(unlabelled, 0.0, weight), pa.float32()),
            "reason": pa.array(reason.astype(object), pa.string()),
        },
        schema=arrow_schema(Label),
    )
