"""A logarithmic pool of opinions: the product of their probabilities, each to the power of its
weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from sssl.arrays import Floats, Indices

# Strength of the pull of the pool's weights towards all alike, in nats per squared unit: some
# tracks' worth, so that few labels cannot decide for one opinion alone.
_TRUST = 4.0
_LARGEST_WEIGHT = 10.0


@dataclass(frozen=True)
class Part:
    """What one opinion, or the pool, is worth by itself: on tracks that were left out of its
    fit."""

    name: str
    accuracy: float
    log_loss: float
    """In nats per track."""
    weight: float | None
    """In the pool; None for the pool itself."""


def pooled(opinions: Floats, weights: Floats) -> Floats:
    """Return the log probabilities [N, C] of a pool of log probabilities [O, N, C] with weights
    [O]."""
    return np.asarray(log_softmax(np.tensordot(weights, opinions, axes=1), axis=1))


def fit_weights(opinions: Floats, labels: Indices) -> Floats:
    """Return the weights [O] of opinions, log probabilities [O, N, C], under which the labels [N]
    of tracks are likeliest; none is negative."""
    alike = np.full(len(opinions), 1 / len(opinions))
    rows = np.arange(len(labels))
    of_truth = opinions[:, rows, labels]  # [O, N]

    def penalised_loss(weights: Floats) -> tuple[float, Floats]:
        log_p = pooled(opinions, weights)
        away = weights - alike
        loss = -log_p[rows, labels].sum() + _TRUST * (away**2).sum() / 2
        # The derivative by a weight: what its opinion says of the truth, less what it says on
        # average under the pool.
        expected = np.einsum("nc,onc->on", np.exp(log_p), opinions)
        gradient = (expected - of_truth).sum(axis=1) + _TRUST * away
        return float(loss), gradient

    # No weight is negative: an opinion may say nothing, but not the opposite of what it says.
    bounds = [(0.0, _LARGEST_WEIGHT)] * len(opinions)
    fitted = minimize(penalised_loss, alike, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(fitted.x)


def part_of(name: str, log_p: Floats, labels: Indices, weight: float | None) -> Part:
    """Measure an opinion, log probabilities [N, C], by the labels [N] of tracks."""
    right = log_p.argmax(axis=1) == labels
    rows = np.arange(len(labels))
    loss = -log_p[rows, labels]
    if weight is not None:  # of NumPy's kind, which JSON has none of
        weight = float(weight)
    return Part(name, float(right.mean()), float(loss.mean()), weight)


def surely_likelier(
    log_p: Floats, before: Floats, labels: Indices, groups: Indices | None = None
) -> bool:
    """Whether log probabilities [N, C] make labels [N] likelier than those before, by more than a
    standard error. Tracks of a group [N] gain and lose together, so each group counts once."""
    rows = np.arange(len(labels))
    gains = log_p[rows, labels] - before[rows, labels]
    if groups is not None:
        _, group = np.unique(groups, return_inverse=True)
        gains = np.bincount(group, gains) / np.bincount(group)
    error = gains.std() / np.sqrt(len(gains))
    return bool(gains.mean() > error)
