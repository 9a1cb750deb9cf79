"""A penalised softmax over what is known of a track: the posteriors of its segments, and how it
sounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

Floats = NDArray[np.float64]
STATISTICS = 2
"""Numbers per class that the posteriors of a track are summed up in."""
FARTHEST = 3.0
"""Standard deviations that a statistic of the sound may lie from the mean. Music unlike all train
tracks, of another sample rate say, would get any label with certainty."""
_FLOOR = 1e-4  # of a posterior: one segment must not decide a track
_EXPONENTS = (0.0, 10.0)
_FEW = 48  # statistics of the sound: of more each may weigh less, so that all together say no more
_ENOUGH = (
    100  # tracks: with fewer, weights fitted to the sound make probabilities too sure (LOG.md)
)


def statistics(posterior: Floats, sound: Floats) -> Floats:
    """Summarise a track as features [2 C + K]: of its segment posteriors [N, C] the log of their
    mean, and the mean of their logs, in which the segments that speak against a class count for
    more; of its sound [N, K] the mean.

    What is taken of the posteriors changes little when they become smoother, as the mean of several
    members is; maxima and shares above a threshold change much.
    """
    log_mean = np.log(np.maximum(posterior.mean(axis=0), _FLOOR))
    return np.concatenate(
        [log_mean, np.log(np.maximum(posterior, _FLOOR)).mean(axis=0), sound.mean(axis=0)]
    )


@dataclass(frozen=True)
class Softmax:
    """A fitted softmax over standardised statistics, as plain numbers: it travels as a side input
    and as JSON."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]
    intercept: tuple[float, ...]

    @property
    def knows_sound(self) -> bool:
        """Whether it was fitted to the sound of tracks, too."""
        return len(self.mean) > STATISTICS * len(self.intercept)

    def log_probabilities(self, features: Floats) -> Floats:
        """Return log probabilities [N, C] of tracks with features [N, F]; of the first of them, if
        it knows no more."""
        known = features[:, : len(self.mean)]
        classes = len(self.intercept)
        x = _standardised(known, np.array(self.mean), np.array(self.scale), classes)
        return np.asarray(
            log_softmax(x @ np.array(self.coefficients).T + np.array(self.intercept), axis=1)
        )


def fit_softmax(
    features: Floats, labels: NDArray[np.int64], classes: int, regularization: float
) -> Softmax:
    """Fit p ~ (mean posterior)^exponent * exp(W z + b), where z are standardised statistics and W
    and b are kept small.

    The mean posterior, sharpened or softened by one exponent, is hard to beat with few tracks, so
    that is what the penalty pulls towards; a penalised softmax of scikit-learn would be pulled
    towards a guess by class shares.

    Args:
        features: statistics [N, 2 C + K] of tracks.
        labels: class index [N] of each.
        classes: number of classes C.
        regularization: inverse L2 strength, as scikit-learn's C.
    """
    mean = np.zeros(features.shape[1])
    scale = np.ones(features.shape[1])
    if len(features):
        mean = features.mean(axis=0)
        std = features.std(axis=0)
        scale = np.where(std > 0, std, 1.0)
    z = _standardised(features, mean, scale, classes)
    log_mean = features[:, :classes]
    strength = np.full(features.shape[1], regularization)
    sound = features.shape[1] - STATISTICS * classes
    strength[STATISTICS * classes :] *= min(1.0, max(len(features), 1) / _ENOUGH) * min(
        1.0, _FEW / max(sound, 1)
    )
    penalty = 1 / np.concatenate([np.full(classes, regularization), np.tile(strength, classes)])

    exponent, bias, weights = minimise_cross_entropy(z, labels, classes, penalty, log_mean)
    # One set of weights for all: the log of the mean comes first among the statistics.
    weights[:, :classes] += exponent * np.diag(scale[:classes])
    bias = bias + exponent * mean[:classes]
    rows = tuple(tuple(map(float, row)) for row in weights)
    return Softmax(tuple(mean.tolist()), tuple(scale.tolist()), rows, tuple(bias.tolist()))


def _standardised(features: Floats, mean: Floats, scale: Floats, classes: int) -> Floats:
    """Scale features [..., 2 C + K], the sound to a bounded range."""
    z = np.asarray((features - mean) / scale)
    z[..., STATISTICS * classes :] = np.clip(z[..., STATISTICS * classes :], -FARTHEST, FARTHEST)
    return z


def minimise_cross_entropy(
    x: Floats,
    labels: NDArray[np.int64],
    classes: int,
    penalty: Floats,
    offset: Floats | None = None,
) -> tuple[float, Floats, Floats]:
    """Return exponent e, bias b [C] and weights W [C, F] of p ~ exp(e * offset + W x + b) that
    minimise the sum of the cross-entropies of rows x [N, F] and half the penalty-weighted squares
    of b and W.

    Args:
        penalty: of each bias, then of each weight by class [C + C * F].
        offset: logits [N, C] that the penalty pulls towards; without them e means nothing.
    """
    truth = np.eye(classes)[labels]
    towards = np.zeros((len(x), classes)) if offset is None else offset

    def penalised_loss(parameters: Floats) -> tuple[float, Floats]:
        exponent, bias, weights = _unpack(parameters, classes)
        log_p = log_softmax(exponent * towards + x @ weights.T + bias, axis=1)
        error = np.exp(log_p) - truth
        loss = -(log_p * truth).sum() + (penalty * parameters[1:] ** 2).sum() / 2
        by_logit = np.concatenate([error.sum(axis=0), (error.T @ x).ravel()])
        gradient = np.concatenate([[(error * towards).sum()], by_logit + penalty * parameters[1:]])
        return loss, gradient

    start = np.zeros(1 + classes * (1 + x.shape[1]))
    start[0] = 1.0  # the offset as it is
    bounds = [_EXPONENTS] + [(None, None)] * (len(start) - 1)
    fitted = minimize(penalised_loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return _unpack(fitted.x, classes)


def _unpack(parameters: Floats, classes: int) -> tuple[float, Floats, Floats]:
    """Return exponent, bias [C] and weights [C, F] of a vector of parameters."""
    return (
        parameters[0],
        parameters[1 : 1 + classes],
        parameters[1 + classes :].reshape(classes, -1).copy(),
    )
