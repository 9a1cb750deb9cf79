"""A second opinion on segments beside the network's: what the numbers of `segments.sound` tell of
their class.

Linear discriminant analysis with a shrunk covariance (Friedman, "Regularized discriminant
analysis", 1989), because it is fitted to sums, which add up over parts. As the network's members
do, each classifier leaves out the fold that it judges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.special import softmax

from sssl.arrays import Floats, Indices, on_grid
from sssl.labels.calibration import fit_temperature, losses_by_temperature
from sssl.metrics import LEAST_PROBABILITY

# Chosen on planted segments of real clips and on EMOPIA, where 0.3 to 0.8 were alike
# (docs/log/2026-11-28-a-second-opinion-on-segments.md).
_SHRINKAGE = 0.6
_CLIP = 4.0  # standard deviations; one segment must not move a covariance
# What a class counts as of which the other folds have no segment, so that its log prior is finite.
_FEWEST = 0.5
_LEAST_VARIANCE = 1e-6  # in squared standard deviations, where all segments sound alike
SHARES = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True)
class ScaleSums:
    """Sums over segments of their sound x [K]; they add up."""

    segments: float
    total: Floats  # [K]: sum of x
    squares: Floats  # [K]: sum of x^2

    @classmethod
    def of(cls, sound: Floats) -> ScaleSums:
        """Sum up the sound [N, K] of segments."""
        return cls(len(sound), sound.sum(axis=0), (sound**2).sum(axis=0))

    def __add__(self, other: ScaleSums) -> ScaleSums:
        return ScaleSums(
            self.segments + other.segments,
            self.total + other.total,
            self.squares + other.squares,
        )


@dataclass(frozen=True)
class Scale:
    """The units in which sound is compared."""

    mean: Floats  # [K]
    std: Floats  # [K]

    def standardized(self, sound: Floats) -> Floats:
        """Return sound [N, K] in standard deviations from its mean, clipped."""
        deviations = (sound - self.mean) / self.std
        return np.clip(deviations, -_CLIP, _CLIP)


def fit_scale(sums: ScaleSums | None) -> Scale | None:
    """Return mean and standard deviation; None where there is no more than one segment."""
    if sums is None or sums.segments < 2:
        return None
    mean = sums.total / sums.segments
    variance = np.maximum(sums.squares / sums.segments - mean**2, 0.0)
    # In single precision the order in which parts were added hardly ever shows.
    mean, std = (values.astype(np.float32).astype(float) for values in (mean, np.sqrt(variance)))
    is_constant = std <= np.abs(mean) * np.finfo(np.float32).eps
    return Scale(mean, np.where(is_constant, 1.0, std))


@dataclass(frozen=True)
class ClassSums:
    """Sums over labelled segments of their standardized sound z [K] by cross-fitting fold; they add
    up."""

    count: Floats  # [F, C]: segments of a class
    total: Floats  # [F, C, K]: sum of z
    outer: Floats  # [F, K, K]: sum of z z'

    @classmethod
    def of(
        cls, standardized: Floats, label: Indices, fold: Indices, folds: int, classes: int
    ) -> ClassSums:
        """Sum up the sound [N, K] of segments with a label [N] of so many classes, whose tracks are
        in a fold [N] of so many."""
        numbers = standardized.shape[1]
        count = np.zeros((folds, classes))
        total = np.zeros((folds, classes, numbers))
        np.add.at(count, (fold, label), 1.0)
        np.add.at(total, (fold, label), standardized)
        by_fold = [standardized[fold == number] for number in range(folds)]
        outer = np.stack([own.T @ own for own in by_fold])
        return cls(count, on_grid(total), on_grid(outer))

    def __add__(self, other: ClassSums) -> ClassSums:
        return ClassSums(
            self.count + other.count, self.total + other.total, self.outer + other.outer
        )


@dataclass(frozen=True)
class SoundClassifier:
    """Linear classifiers of standardized sound: one per fold, fitted without it, and last of all
    one that was fitted to all folds."""

    scale: Scale
    weights: Floats  # [F + 1, K, C]
    bias: Floats  # [F + 1, C]

    def posteriors(self, sound: Floats, fold: Indices) -> Floats:
        """Return the posteriors [N, C] of segments by their sound [N, K], for tracks in a fold [N];
        -1, in none, takes the classifier of all folds."""
        standardized = self.scale.standardized(sound)
        # A fold that came later, by another number of folds, was left out by none.
        folds = len(self.bias) - 1
        fold = np.where(fold < folds, fold, -1)
        found = np.empty((len(sound), self.bias.shape[1]))
        for number in np.unique(fold):
            own = fold == number
            logits = standardized[own] @ self.weights[number] + self.bias[number]
            found[own] = softmax(logits, axis=1)
        return found


def fit_classifier(sums: ClassSums | None, scale: Scale | None) -> SoundClassifier | None:
    """Fit the classifiers; None where nothing was summed up, or all of it in one fold."""
    if sums is None or scale is None:
        return None
    left_out = [*range(len(sums.count)), None]
    kept = [_without(sums, fold) for fold in left_out]
    if not all(count.any() for count, _, _ in kept):
        return None
    fitted = [_discriminant(*own) for own in kept]
    # In single precision other libraries and processors say the same.
    weights, bias = (
        np.stack(values).astype(np.float32).astype(float) for values in zip(*fitted, strict=True)
    )
    return SoundClassifier(scale, weights, bias)


@dataclass(frozen=True)
class SecondOpinion:
    """A classifier of sound, and how much it counts beside the network."""

    classifier: SoundClassifier
    share: float
    """Its share of the logarithm of a posterior, 0 to 1."""

    def mixed(self, posterior: Floats, sound: Floats, fold: Indices) -> Floats:
        """Mix it into the network's posteriors [N, C]; NaN stays NaN."""
        by_sound = self.classifier.posteriors(sound, fold)
        return _mixed(posterior, by_sound, self.share)


def losses_by_share(posterior: Floats, by_sound: Floats | None, label: Indices) -> Floats:
    """Return the sum of -log p of labels [N] for each of SHARES and TEMPERATURES [S, T], given the
    posteriors [N, C] of the network and of the classifier; [1, T] without a classifier."""
    shares = SHARES
    if by_sound is None:
        shares = SHARES[:1]
        by_sound = posterior
    mixed = [_mixed(posterior, by_sound, share) for share in shares]
    return np.stack([losses_by_temperature(own, label) for own in mixed])


def fit_share(
    losses: Floats | None, classifier: SoundClassifier | None
) -> tuple[float, SecondOpinion | None]:
    """Return the likeliest temperature, and the second opinion at its likeliest share; None where
    there is none or it makes nothing likelier."""
    if losses is None:
        return 1.0, None
    best = int(np.argmin(losses.min(axis=1)))
    temperature = fit_temperature(losses[best])
    if classifier is None or not best:
        return temperature, None
    return temperature, SecondOpinion(classifier, float(SHARES[best]))


def _mixed(posterior: Floats, by_sound: Floats, share: float) -> Floats:
    """Return the posteriors [N, C] whose logarithm is the weighted mean of those of both."""
    if not share:
        return posterior
    ours = np.log(np.maximum(posterior, LEAST_PROBABILITY))
    theirs = np.log(np.maximum(by_sound, LEAST_PROBABILITY))
    return softmax((1 - share) * ours + share * theirs, axis=1)


def _without(sums: ClassSums, fold: int | None) -> tuple[Floats, Floats, Floats]:
    """Return count [C], total [C, K] and outer [K, K] of all folds but one."""
    every = (sums.count, sums.total, sums.outer)
    together = [values.sum(axis=0) for values in every]
    if fold is None:
        count, total, outer = together
    else:
        count, total, outer = (
            all_of_them - values[fold] for all_of_them, values in zip(together, every, strict=True)
        )
    return count, total, outer


def _discriminant(count: Floats, total: Floats, outer: Floats) -> tuple[Floats, Floats]:
    """Return the weights [K, C] and the bias [C] of the linear discriminant."""
    segments = count.sum()
    known = np.maximum(count, _FEWEST)
    mean = total / known[:, None]
    within = (outer - (mean * count[:, None]).T @ mean) / segments
    numbers = len(within)
    average = max(np.trace(within) / numbers, _LEAST_VARIANCE)
    shrunk = (1 - _SHRINKAGE) * within + _SHRINKAGE * average * np.eye(numbers)
    weights = linalg.solve(shrunk, mean.T, assume_a="pos")
    prior = np.log(known / known.sum())
    bias = prior - 0.5 * (mean.T * weights).sum(axis=0)
    return weights, bias
