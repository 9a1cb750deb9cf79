"""Valence and arousal of a track, learned from tracks that have them as numbers.

Several experts say a place each; how much each counts is decided by tracks that it was not fitted
to, as with the opinions on classes. What these tracks' numbers were off by gives the interval.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import lsq_linear
from scipy.special import log_ndtr
from sklearn.linear_model import BayesianRidge
from sklearn.preprocessing import RobustScaler

from schemas.records import later
from sssl.arrays import Floats, Indices
from sssl.catalog.plane import AXES
from sssl.metrics import agreement
from sssl.songs.kernel import Kernel, fit_by_similarity
from sssl.songs.linear import Linear, rounded, standardised
from sssl.songs.softmax import STATISTICS

LEVEL = 0.9
"""Share of tracks whose numbers an interval is to hold."""
HELD_OUT = "held-out tracks"
LEFT_OUT = "train tracks"
FEWEST_TRACKS = 20
"""Train tracks with both numbers that a regression needs: with fewer, an interval would be the
whole scale."""
_LOWEST, _HIGHEST = -1.0, 1.0  # of the scale
_TRUST = 4.0  # tracks' worth of pull towards all experts alike, as in the pool of opinions
_LARGEST_WEIGHT = 2.0
_SMALLEST_SPREAD = 0.05  # of listeners about their mean, whatever a regression promises


class Places(NamedTuple):
    """Tracks with numbers: what is known of them [N, 2 C + K], their valence and arousal [N, 2],
    cross-fitting folds [N], groups [N] and, where there is a front-end, embeddings [N, D]."""

    features: Floats
    numbers: Floats
    folds: Indices
    groups: Indices
    embeddings: Floats | None = None

    def take(self, rows: Indices) -> Places:
        embeddings = None if self.embeddings is None else self.embeddings[rows]
        return Places(
            self.features[rows], self.numbers[rows], self.folds[rows], self.groups[rows], embeddings
        )


@dataclass(frozen=True)
class Experts:
    """What was fitted, each to both axes: to the posteriors of the network, to these and the sound,
    to the similarity in sound with some tracks, and to embeddings. As plain numbers."""

    mean: tuple[float, ...]
    """Of the tracks that were fitted to, by axis."""
    network: Linear
    linear: Linear
    kernel: Kernel | None = None
    embedding: Linear | None = later(None, neutral=None)

    def deviations(self, features: Floats, embeddings: Floats | None) -> Floats:
        """Return how far from the mean each expert sees tracks [E, N, 2]; one that knows nothing of
        a track sees it there."""
        posteriors = features[:, : len(self.network.mean)]
        outputs = [self.network.outputs(posteriors), self.linear.outputs(features)]
        if self.kernel is not None:
            sound = features[:, len(self.network.mean) :]
            outputs.append(self.kernel.outputs(sound))
        if self.embedding is not None:
            if embeddings is None:
                embeddings = np.full((len(features), len(self.embedding.mean)), np.nan)
            outputs.append(self.embedding.outputs(embeddings))
        deviations = np.stack(outputs) - np.array(self.mean)
        # NaN where there is no embedding.
        return np.where(np.isfinite(deviations), deviations, 0.0)


@dataclass(frozen=True)
class Axis:
    """How the experts make one number, and how far off it is."""

    weights: tuple[float, ...]
    """Of each expert; all zero where none is better than the mean."""
    lowest: float
    """No track with a number has less."""
    highest: float
    spread: float
    """Standard deviation of the numbers of left-out tracks about what is said of them."""
    reach: float
    """Half the width of the interval."""

    def values(self, deviations: Floats, mean: float) -> Floats:
        """Return the number [N] of tracks that experts see so far from the mean [E, N]."""
        found = mean + np.array(self.weights) @ deviations
        # Beyond all that listeners ever said nobody knows what a number means.
        return np.asarray(np.clip(found, self.lowest, self.highest))


@dataclass(frozen=True)
class Regression:
    """What turns the posteriors and the sound of a track into its valence and arousal."""

    experts: Experts
    valence: Axis
    arousal: Axis
    signs: tuple[tuple[float, ...], ...]
    """Of valence and arousal, by class."""

    @property
    def axes(self) -> tuple[Axis, Axis]:
        return self.valence, self.arousal

    def places(self, features: Floats, embeddings: Floats | None = None) -> Floats:
        """Return the valence and arousal [N, 2] of tracks with features [N, 2 C + K] and embeddings
        [N, D]."""
        deviations = self.experts.deviations(features, embeddings)
        found = [
            axis.values(deviations[:, :, number], self.experts.mean[number])
            for number, axis in enumerate(self.axes)
        ]
        return np.stack(found, axis=1)

    def intervals(self, places: Floats) -> tuple[Floats, Floats]:
        """Return both ends [N, 2] of the intervals of places [N, 2]."""
        reach = np.array([axis.reach for axis in self.axes])
        # Within the scale, outside of which no number lies.
        low = np.maximum(places - reach, _LOWEST)
        high = np.minimum(places + reach, _HIGHEST)
        return low, high

    def log_probabilities(self, features: Floats, embeddings: Floats | None = None) -> Floats:
        """Return log probabilities [N, C] of classes: that both numbers lie on their side, where
        each is normally distributed about what is said of it."""
        places = self.places(features, embeddings)
        spread = np.array([axis.spread for axis in self.axes])
        # Both sides as independent: what is left of one axis hardly tells of the other.
        deviates = places[:, None, :] * np.array(self.signs) / spread  # [N, C, 2]
        return np.asarray(log_ndtr(deviates).sum(axis=2))


@dataclass(frozen=True)
class Quality:
    """How good one of the numbers is on tracks that were left out of the fit."""

    axis: str
    of: str
    """HELD_OUT, or LEFT_OUT: train tracks, each by a fit that left out its group."""
    tracks: int
    r2: float | None
    rmse: float | None
    ccc: float | None
    """Lin's concordance correlation coefficient."""
    coverage: float | None
    """Share of the numbers that lie in their interval."""


class FittedRegression(NamedTuple):
    """A regression, those that left out a fold, and how good they are on its tracks."""

    regression: Regression
    by_fold: dict[int, Regression]
    qualities: list[Quality]


def fit_regression(tracks: Places, signs: Floats) -> FittedRegression | None:
    """Fit to train tracks, for classes with such signs [C, 2]; None where too few tracks have
    numbers, or all are of one fold."""
    folds = np.unique(tracks.folds)
    if len(tracks.folds) < FEWEST_TRACKS or len(folds) < 2:
        return None
    by_fold = {}
    left_out = {}
    for fold in folds.tolist():
        rows = np.flatnonzero(tracks.folds == fold)
        others = np.flatnonzero(tracks.folds != fold)
        by_fold[fold] = fit_experts(tracks.take(others), len(signs))
        left_out[fold] = rows
    seen = _seen_by(by_fold, left_out, tracks)
    known_signs = tuple(map(tuple, signs.tolist()))
    weighed_by_fold = {}
    said = np.empty((3, *tracks.numbers.shape))
    for fold, experts in by_fold.items():
        # Weights and intervals come from tracks of the other folds. What experts say of those
        # knows the fold's own numbers, which reach its tracks through these few values.
        axes = _fit_axes(seen, tracks, np.flatnonzero(tracks.folds != fold))
        weighed_by_fold[fold] = Regression(experts, *axes, known_signs)
        said[:, left_out[fold]] = said_of(weighed_by_fold[fold], tracks.take(left_out[fold]))
    axes = _fit_axes(seen, tracks, np.arange(len(tracks.folds)))
    regression = Regression(fit_experts(tracks, len(signs)), *axes, known_signs)
    return FittedRegression(regression, weighed_by_fold, qualities(LEFT_OUT, tracks.numbers, said))


class _Seen(NamedTuple):
    """How far from the mean experts see tracks that they were not fitted to [E, N, 2], and which
    mean that is [N, 2]."""

    deviations: Floats
    means: Floats


def _seen_by(by_fold: dict[int, Experts], left_out: dict[int, Indices], tracks: Places) -> _Seen:
    """Ask of each track the experts that left out its fold."""
    means = np.empty_like(tracks.numbers)
    found = []
    for fold, experts in by_fold.items():
        own = tracks.take(left_out[fold])
        found.append(experts.deviations(own.features, own.embeddings))
        means[left_out[fold]] = experts.mean
    in_order_of_folds = np.concatenate(list(left_out.values()))
    deviations = np.empty((len(found[0]), *tracks.numbers.shape))
    deviations[:, in_order_of_folds] = np.concatenate(found, axis=1)
    return _Seen(deviations, means)


def _fit_axes(seen: _Seen, tracks: Places, rows: Indices) -> tuple[Axis, Axis]:
    """Weigh experts by how they see some tracks."""
    groups = tracks.groups[rows]
    valence, arousal = (
        _fit_axis(
            seen.deviations[:, rows, axis],
            seen.means[rows, axis],
            tracks.numbers[rows, axis],
            groups,
        )
        for axis in range(len(AXES))
    )
    return valence, arousal


def fit_experts(tracks: Places, classes: int) -> Experts:
    """Fit all experts to tracks."""
    posteriors = tracks.features[:, : STATISTICS * classes]
    sound = tracks.features[:, STATISTICS * classes :]
    mean = tracks.numbers.mean(axis=0)
    kernel = None
    if sound.size:  # not for folders from before the sound was measured
        scale = _robust_scale(sound)
        kernel = fit_by_similarity(sound, *scale, lambda x: _ridge(x, tracks.numbers))
    embedding = None
    if tracks.embeddings is not None:
        embedding = _fit_embedding(tracks.embeddings, tracks.numbers)
    return Experts(
        mean=tuple(mean.tolist()),
        network=fit_line(posteriors, tracks.numbers),
        linear=fit_line(tracks.features, tracks.numbers),
        kernel=kernel,
        embedding=embedding,
    )


def _fit_embedding(embeddings: Floats, numbers: Floats) -> Linear:
    """Fit to the tracks that have an embedding; without two of them it says the mean."""
    known = np.isfinite(embeddings).all(axis=1)
    if known.sum() > 1:
        return fit_line(embeddings[known], numbers[known])
    return fit_line(np.zeros_like(embeddings), numbers)


def fit_line(rows: Floats, numbers: Floats) -> Linear:
    """Fit numbers [N, 2] linearly to rows [N, F]."""
    mean, scale = _robust_scale(rows)
    x = standardised(rows, mean, scale)
    bias, weights = _ridge(x, numbers)
    return Linear(
        mean=rounded(mean),
        scale=rounded(scale),
        coefficients=tuple(map(rounded, weights)),
        intercept=rounded(bias),
    )


def _robust_scale(rows: Floats) -> tuple[Floats, Floats]:
    """Return the median and the scale [F] of rows [N, F] by their quartiles, which strange tracks
    do not move."""
    scaler = RobustScaler(unit_variance=True).fit(rows)
    return scaler.center_, scaler.scale_


def _ridge(x: Floats, numbers: Floats) -> tuple[Floats, Floats]:
    """Return bias [2] and weights [2, F] of a ridge regression of numbers [N, 2] on rows [N, F],
    whose penalty is the likeliest (MacKay, "Bayesian interpolation", 1992). On the Nyström map of a
    kernel that is a Gaussian process with a few landmarks."""
    fitted = [BayesianRidge().fit(x, axis) for axis in numbers.T]
    bias = np.array([ridge.intercept_ for ridge in fitted])
    weights = np.stack([ridge.coef_ for ridge in fitted])
    return bias, weights


def _fit_axis(deviations: Floats, means: Floats, numbers: Floats, groups: Indices) -> Axis:
    """Weigh experts that see tracks so far from the mean [E, N], given the tracks' numbers [N] and
    the means [N] that they were seen from."""
    wanted = numbers - means
    weights = _fit_weights(deviations, wanted)
    axis = Axis(
        weights=rounded(weights),
        lowest=float(numbers.min()),
        highest=float(numbers.max()),
        spread=0.0,
        reach=0.0,
    )
    # As `Axis.values` clips them: the interval is about what is published.
    errors = numbers - np.clip(means + weights @ deviations, axis.lowest, axis.highest)
    spread = float(np.sqrt(np.mean(errors**2)))
    return replace(axis, spread=max(spread, _SMALLEST_SPREAD), reach=_reach(errors, groups))


def _fit_weights(deviations: Floats, wanted: Floats) -> Floats:
    """Return the weights [E] under which experts' deviations [E, N] come nearest to those of tracks
    [N]: stacked regression (Breiman, "Stacked regressions", 1996), of which no weight is negative.
    All are zero where that is not better than the mean."""
    count = len(deviations)
    # As much as that many tracks pulls towards all experts alike.
    pull = np.sqrt(_TRUST * np.mean(wanted**2))
    rows = np.concatenate([deviations.T, pull * np.eye(count)])
    # The pull as further rows, each of which wants one weight to be like the others.
    targets = np.concatenate([wanted, np.full(count, pull / count)])
    # None is negative: an expert may know nothing, but not the opposite of the truth.
    weights = lsq_linear(rows, targets, bounds=(0.0, _LARGEST_WEIGHT)).x
    errors = wanted - weights @ deviations
    if np.sum(errors**2) >= np.sum(wanted**2):
        return np.zeros(count)
    return np.asarray(weights)


def _reach(errors: Floats, groups: Indices) -> float:
    """Return what errors [N] of left-out tracks stay below in LEVEL of all groups, each of which
    counts once: a split conformal interval (Lei et al., "Distribution-free predictive inference for
    regression", 2018). With too few groups it is the whole scale."""
    _, group_of_track, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(np.abs(errors), kind="stable")
    mass = np.cumsum(1 / sizes[group_of_track[order]])
    wanted = LEVEL * (len(sizes) + 1)  # the new track's group is one more
    # Rounding must not ask for one track more.
    rank = int(np.searchsorted(mass, wanted - 1e-9))
    if rank == len(errors):
        return _HIGHEST - _LOWEST
    return float(np.abs(errors)[order[rank]])


def said_of(regression: Regression, tracks: Places) -> Floats:
    """Return the numbers of tracks, and the lower and the upper ends of their intervals
    [3, N, 2]."""
    places = regression.places(tracks.features, tracks.embeddings)
    return np.stack([places, *regression.intervals(places)])


def qualities(of: str, numbers: Floats, said: Floats) -> list[Quality]:
    """Measure what was said [3, N, 2] of tracks with such numbers [N, 2]."""
    places, low, high = said
    is_within = (low <= numbers) & (numbers <= high)
    found = []
    for number, axis in enumerate(AXES):
        agreed = agreement(numbers[:, number], places[:, number])
        coverage = float(is_within[:, number].mean()) if len(numbers) else None
        quality = Quality(axis, of, len(numbers), agreed.r2, agreed.rmse, agreed.ccc, coverage)
        found.append(quality)
    return found
