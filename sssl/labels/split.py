"""The split of a round: a mixture fitted to the losses of segments, and what it says of each
segment's label.

Method: Sun, Zhang, Zhou, Li, "Semi-Supervised Self-Learning Enhanced Music Emotion Recognition",
2024, as `paper`; `guarded` adds what keeps the recipe from harming a model where labels are right
or a class is merely hard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from schemas.records import later
from sssl.arrays import Flags, Floats, Indices
from sssl.labels import mixture as mix
from sssl.labels.evidence import Evidence, Segments
from sssl.labels.settings import RelabelConfig

# The quantile that a class is located by: up to three quarters of its labels may be wrong.
_EASY = 0.25


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
    share_of_sound: float = later(0.0, neutral=0.0)


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


def loss_histograms(loss: Floats, segments: Segments, axis: mix.Axis) -> Indices:
    """Count the losses [N] of a part's segments by inherited label [C, BINS]: of those that
    evidence is fitted to."""
    counts = []
    for number in range(segments.posterior.shape[1]):
        own = segments.fitted & (segments.label == number)
        counts.append(mix.histogram(loss[own], axis))
    return np.stack(counts)


def apply_split(
    split: Split, inherited: Indices, loss: Floats, tau: float
) -> tuple[Floats, Flags, Flags]:
    """Return clean probability [N], noisy [N] and capped [N] (noisy but for the cap) of segments
    with an inherited class [N], -1 where none is, and a loss [N] in nats, NaN where none is."""
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


def _nothing_noisy(axis: mix.Axis, classes: int) -> Split:
    """Return the split of a round without a loss: every segment is confident."""
    one_component = mix.Mixture(axis, mix.Component(1.0, 0.0, 1.0), None)
    of_class = ClassSplit(one_component, np.ones(mix.BINS), mix.BINS)
    return Split(axis, one_component, (of_class,) * classes)


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
