"""A linear softmax over the mean embedding of a track, which a pretrained network made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax
from sklearn.decomposition import PCA

from sssl.arrays import Flags, Floats, Indices, spread
from sssl.songs.softmax import FARTHEST, minimise_cross_entropy

# Principal components that the fit goes by: more than some hundred labelled tracks can tell apart.
_COMPONENTS = 128
# Inverse penalties to choose from, as scikit-learn's C; tracks that were left out choose.
_STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
# Where all tracks are of one fold, so that none can be left out.
_USUAL_STRENGTH = 10.0
_SMALL = 1e-3  # penalty of the bias, which takes no side
_DIGITS = 6  # that are kept of a number: coefficients are most of what a song model's JSON holds


@dataclass(frozen=True)
class Linear:
    """A linear map of standardised numbers, as plain numbers itself: of embeddings to the logits of
    classes, or of what is known of a track to other numbers."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]
    """Weights [C, D]."""
    intercept: tuple[float, ...]

    def outputs(self, rows: Floats) -> Floats:
        """Return what it maps rows [N, D] to [N, C]; NaN where one of their numbers is."""
        z = standardised(rows, np.array(self.mean), np.array(self.scale))
        weights = np.array(self.coefficients)
        return z @ weights.T + np.array(self.intercept)

    def log_probabilities(self, embeddings: Floats) -> Floats:
        """Return log probabilities [N, C] of tracks with embeddings [N, D]; of a track without one,
        of which all are NaN, an opinion of nothing: that all classes are alike."""
        logits = self.outputs(embeddings)
        logits = np.where(np.isfinite(logits), logits, 0.0)
        return np.asarray(log_softmax(logits, axis=1))


def mean_embedding(embeddings: Floats) -> Floats:
    """Return the mean [D] of the embeddings [N, D] of a track's segments, without those that have
    none; NaN where all have none."""
    is_there = np.isfinite(embeddings).all(axis=1)
    found = embeddings[is_there]
    if not len(found):
        return np.full(embeddings.shape[1], np.nan)
    return np.asarray(found.mean(axis=0, dtype=np.float64))


def fit_linear(embeddings: Floats, labels: Indices, folds: Indices, classes: int) -> Linear:
    """Fit to tracks with embeddings [N, D], class indices [N] and cross-fitting folds [N].

    Tracks without an embedding are passed over; where two others are not left, it is an opinion of
    nothing. It goes by the principal components of the standardised embeddings; how strongly it is
    penalised is decided by the likelihood of tracks of folds that are left out.
    """
    known = np.flatnonzero(np.isfinite(embeddings).all(axis=1))
    dimensions = embeddings.shape[1]
    if len(known) < 2:
        return _opinion_of_nothing(dimensions, classes)
    found = embeddings[known]
    labels = labels[known]
    folds = folds[known]
    mean = found.mean(axis=0)
    scale = spread(found)
    # Divided by the root of D, so that a penalty means the same however long embeddings are.
    root = np.sqrt(dimensions)
    z = standardised(found, mean, scale) / root
    components = min(_COMPONENTS, *z.shape)  # PCA has no more than tracks or dimensions
    pca = PCA(components, random_state=0)
    x = pca.fit_transform(z)
    strength = _strength(x, labels, folds, classes)
    bias, weights = _fit(x, labels, classes, strength)
    # Back to dimensions of the embedding, so that labelling a song needs no components.
    by_dimension = weights @ pca.components_
    return Linear(
        mean=rounded(mean),
        scale=rounded(scale),
        coefficients=tuple(map(rounded, by_dimension / root)),
        intercept=rounded(bias - by_dimension @ pca.mean_),
    )


def _opinion_of_nothing(dimensions: int, classes: int) -> Linear:
    """Return what makes all classes alike."""
    zeros = (0.0,) * dimensions
    ones = (1.0,) * dimensions
    weights = (zeros,) * classes
    return Linear(mean=zeros, scale=ones, coefficients=weights, intercept=(0.0,) * classes)


def _strength(x: Floats, labels: Indices, folds: Indices, classes: int) -> float:
    """Choose the inverse penalty under which the labels of left-out tracks are likeliest."""
    distinct = np.unique(folds)
    if len(distinct) < 2:
        return _USUAL_STRENGTH
    losses = []
    for strength in _STRENGTHS:
        loss = 0.0
        for fold in distinct:
            loss += _left_out_loss(x, labels, folds == fold, classes, strength)
        losses.append(loss)
    best = int(np.argmin(losses))
    return _STRENGTHS[best]


def _left_out_loss(
    x: Floats, labels: Indices, left_out: Flags, classes: int, strength: float
) -> float:
    kept = ~left_out
    bias, weights = _fit(x[kept], labels[kept], classes, strength)
    log_p = log_softmax(x[left_out] @ weights.T + bias, axis=1)
    rows = np.arange(len(log_p))
    of_label = log_p[rows, labels[left_out]]
    return float(-of_label.sum())


def _fit(x: Floats, labels: Indices, classes: int, strength: float) -> tuple[Floats, Floats]:
    numbers = classes * (1 + x.shape[1])
    penalty = np.full(numbers, 1 / strength)
    penalty[:classes] = _SMALL
    _, bias, weights = minimise_cross_entropy(x, labels, classes, penalty)
    return bias, weights


def standardised(rows: Floats, mean: Floats, scale: Floats) -> Floats:
    """Return rows [N, D] in standard deviations, bounded."""
    z = (rows - mean) / scale
    return np.asarray(np.clip(z, -FARTHEST, FARTHEST))


def rounded(values: Floats) -> tuple[float, ...]:
    """Return values with as many digits as are kept."""
    texts = [f"{value:.{_DIGITS}g}" for value in values]
    return tuple(map(float, texts))
