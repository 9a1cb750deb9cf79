"""A linear softmax over the mean embedding of a track, which a pretrained network made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.decomposition import PCA

from sssl.songs.softmax import FARTHEST, Floats, minimise_cross_entropy

_COMPONENTS = 128
"""Principal components that the fit goes by: more than some hundred labelled tracks can tell
apart."""
_STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
"""Inverse penalties to choose from, as scikit-learn's C; tracks that were left out choose."""
_USUAL_STRENGTH = 10.0
"""Where all tracks are of one fold, so that none can be left out."""
_SMALL = 1e-3  # penalty of the bias, which takes no side
_DIGITS = 6  # that are kept of a number: coefficients are most of what a song model's JSON holds


@dataclass(frozen=True)
class Linear:
    """A fitted softmax over standardised embeddings, as plain numbers."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]
    """Weights [C, D]."""
    intercept: tuple[float, ...]

    def log_probabilities(self, embeddings: Floats) -> Floats:
        """Return log probabilities [N, C] of tracks with embeddings [N, D]; of a track without one,
        of which all are NaN, an opinion of nothing: that all classes are alike."""
        z = _standardised(embeddings, np.array(self.mean), np.array(self.scale))
        logits = z @ np.array(self.coefficients).T + np.array(self.intercept)
        return np.asarray(log_softmax(np.where(np.isfinite(logits), logits, 0.0), axis=1))


def mean_embedding(embeddings: Floats) -> Floats:
    """Return the mean [D] of the embeddings [N, D] of a track's segments, without those that have
    none; NaN where all have none."""
    found = embeddings[np.isfinite(embeddings).all(axis=1)]
    if not len(found):
        return np.full(embeddings.shape[1], np.nan)
    return np.asarray(found.mean(axis=0, dtype=np.float64))


def fit_linear(
    embeddings: Floats, labels: NDArray[np.int64], folds: NDArray[np.int64], classes: int
) -> Linear:
    """Fit to tracks with embeddings [N, D], class indices [N] and cross-fitting folds [N].

    Tracks without an embedding are passed over; where two others are not left, it is an opinion of
    nothing. It goes by the principal components of the standardised embeddings; how strongly it is
    penalised is decided by the likelihood of tracks of folds that are left out.
    """
    known = np.flatnonzero(np.isfinite(embeddings).all(axis=1))
    if len(known) < 2:
        nothing = (0.0,) * embeddings.shape[1]
        return Linear(nothing, tuple(1.0 for _ in nothing), (nothing,) * classes, (0.0,) * classes)
    found = embeddings[known]
    labels = labels[known]
    folds = folds[known]
    mean = found.mean(axis=0)
    std = found.std(axis=0)
    scale = np.where(std > 0, std, 1.0)
    # Divided by the root of D, so that a penalty means the same however long embeddings are.
    z = _standardised(found, mean, scale) / np.sqrt(found.shape[1])
    pca = PCA(min(_COMPONENTS, *z.shape), random_state=0)
    x = pca.fit_transform(z)
    bias, weights = _fit(x, labels, classes, _strength(x, labels, folds, classes))
    by_dimension = weights @ pca.components_
    return Linear(
        mean=_rounded(mean),
        scale=_rounded(scale),
        coefficients=tuple(map(_rounded, by_dimension / np.sqrt(found.shape[1]))),
        intercept=_rounded(bias - by_dimension @ pca.mean_),
    )


def _strength(
    x: Floats, labels: NDArray[np.int64], folds: NDArray[np.int64], classes: int
) -> float:
    """Choose the inverse penalty under which the labels of left-out tracks are likeliest."""
    if len(np.unique(folds)) < 2:
        return _USUAL_STRENGTH
    losses = [
        sum(
            _left_out_loss(x, labels, folds == fold, classes, strength) for fold in np.unique(folds)
        )
        for strength in _STRENGTHS
    ]
    return _STRENGTHS[int(np.argmin(losses))]


def _left_out_loss(
    x: Floats, labels: NDArray[np.int64], left_out: NDArray[np.bool_], classes: int, strength: float
) -> float:
    bias, weights = _fit(x[~left_out], labels[~left_out], classes, strength)
    log_p = log_softmax(x[left_out] @ weights.T + bias, axis=1)
    return float(-log_p[np.arange(len(log_p)), labels[left_out]].sum())


def _fit(
    x: Floats, labels: NDArray[np.int64], classes: int, strength: float
) -> tuple[Floats, Floats]:
    penalty = np.full(classes * (1 + x.shape[1]), 1 / strength)
    penalty[:classes] = _SMALL
    _, bias, weights = minimise_cross_entropy(x, labels, classes, penalty)
    return bias, weights


def _standardised(embeddings: Floats, mean: Floats, scale: Floats) -> Floats:
    return np.asarray(np.clip((embeddings - mean) / scale, -FARTHEST, FARTHEST))


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)
