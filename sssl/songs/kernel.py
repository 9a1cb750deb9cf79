"""A kernel machine over the sound of tracks: tracks that sound alike have the same emotion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax
from sklearn.kernel_approximation import Nystroem

from sssl.arrays import Floats, Indices, spread
from sssl.songs.softmax import FARTHEST, minimise_cross_entropy

_LANDMARKS = 128  # 300 were no better on 419 clips (LOG.md), and each is a row of the manifest
_WIDTH = 0.5  # exponent of the kernel at a mean squared distance of 1 per statistic
_STRENGTH = 10.0  # scikit-learn's C
_DECIMALS = 4  # of standard deviations: landmarks are most of what a song model's JSON holds
_SMALL = 1e-3  # penalty of the bias, which takes no side


@dataclass(frozen=True)
class Kernel:
    """A linear map of the similarity to some labelled tracks, as plain numbers: to the logits of
    classes, or to other numbers."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    landmarks: tuple[tuple[float, ...], ...]
    """Standardised sound [M, K] of the tracks that others are compared with."""
    coefficients: tuple[tuple[float, ...], ...]
    """Weights [C, M]."""
    intercept: tuple[float, ...]

    def outputs(self, sound: Floats) -> Floats:
        """Return what it maps tracks with a sound [N, K] to [N, C]."""
        weights = np.array(self.coefficients)
        return self.similarities(sound) @ weights.T + np.array(self.intercept)

    def similarities(self, sound: Floats) -> Floats:
        """Return how similar tracks with a sound [N, K] are to each landmark [N, M]: from 0 to
        1."""
        z = _standardised(sound, np.array(self.mean), np.array(self.scale))
        landmarks = np.array(self.landmarks)
        # |z - l|^2 = |z|^2 + |l|^2 - 2 z l, without an array [N, M, K].
        of_tracks = (z**2).sum(axis=1)[:, None]
        of_landmarks = (landmarks**2).sum(axis=1)
        squares = of_tracks + of_landmarks - 2 * z @ landmarks.T
        squares = np.maximum(squares, 0.0)  # rounding can make them negative
        return np.asarray(np.exp(-_gamma(z.shape[1]) * squares))

    def log_probabilities(self, sound: Floats) -> Floats:
        """Return log probabilities [N, C] of tracks with a sound [N, K]."""
        return np.asarray(log_softmax(self.outputs(sound), axis=1))


def fit_kernel(sound: Floats, labels: Indices, classes: int) -> Kernel:
    """Fit a logistic regression to tracks with a sound [N, K] and class indices [N]."""

    def fit(x: Floats) -> tuple[Floats, Floats]:
        numbers = classes * (1 + x.shape[1])
        penalty = np.full(numbers, 1 / _STRENGTH)
        penalty[:classes] = _SMALL
        _, bias, weights = minimise_cross_entropy(x, labels, classes, penalty)
        return bias, weights

    return fit_by_similarity(sound, sound.mean(axis=0), spread(sound), fit)


Fit = Callable[[Floats], tuple[Floats, Floats]]
"""Returns bias [C] and weights [C, F] of what was fitted to rows [N, F]."""


def fit_by_similarity(sound: Floats, mean: Floats, scale: Floats, fit: Fit) -> Kernel:
    """Fit something linear to tracks with a sound [N, K], of such a mean and scale [K], by the
    Nyström method (Williams and Seeger, "Using the Nyström method to speed up kernel machines",
    2001): what is fitted stays small however many tracks there are."""
    z = np.round(_standardised(sound, mean, scale), _DECIMALS)
    tracks, statistics = z.shape
    landmarks = min(_LANDMARKS, tracks)  # each is one of the tracks
    approximation = Nystroem(gamma=_gamma(statistics), n_components=landmarks, random_state=0)
    x = approximation.fit_transform(z)
    bias, weights = fit(x)
    # The map to landmarks and the weights on it are both linear: one matrix says both.
    coefficients = weights @ approximation.normalization_
    return Kernel(
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        landmarks=_rows(approximation.components_),
        coefficients=_rows(coefficients),
        intercept=tuple(bias.tolist()),
    )


def _gamma(statistics: int) -> float:
    return _WIDTH / statistics


def _standardised(sound: Floats, mean: Floats, scale: Floats) -> Floats:
    z = (sound - mean) / scale
    return np.asarray(np.clip(z, -FARTHEST, FARTHEST))


def _rows(matrix: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, matrix.tolist()))
