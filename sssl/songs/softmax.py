"""A penalised softmax over what is known of a track: the posteriors of its segments, and how it
sounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from sssl.arrays import Floats, Indices, spread

STATISTICS = 2
"""Numbers per class that the posteriors of a track are summed up in."""
FARTHEST = 3.0
"""Standard deviations that a statistic of the sound may lie from the mean. Music unlike all train
tracks, of another sample rate say, would get any label with certainty."""
_FLOOR = 1e-4  # of a posterior: one segment must not decide a track
_EXPONENTS = (0.0, 10.0)  # from no opinion to a posterior taken for certain
_FEW = 48  # statistics of the sound: of more each may weigh less, so that all together say no more
# Tracks: with fewer, weights fitted to the sound make probabilities too sure (LOG.md).
_ENOUGH = 100


def statistics(posterior: Floats, sound: Floats) -> Floats:
    """Summarise a track as features [2 C + K]: of its segment posteriors [N, C] the log of their
    mean, and the mean of their logs, in which the segments that speak against a class count for
    more; of its sound [N, K] the mean.

    What is taken of the posteriors changes little when they become smoother, as the mean of several
    members is; maxima and shares above a threshold change much.
    """
    mean = posterior.mean(axis=0)
    log_mean = np.log(np.maximum(mean, _FLOOR))
    logs = np.log(np.maximum(posterior, _FLOOR))
    return np.concatenate([log_mean, logs.mean(axis=0), sound.mean(axis=0)])


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
        mean = np.array(self.mean)
        scale = np.array(self.scale)
        weights = np.array(self.coefficients)
        bias = np.array(self.intercept)
        x = _standardised(known, mean, scale, classes)
        logits = x @ weights.T + bias
        return np.asarray(log_softmax(logits, axis=1))


def fit_softmax(features: Floats, labels: Indices, classes: int, regularization: float) -> Softmax:
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
    tracks, numbers = features.shape
    mean = np.zeros(numbers)
    scale = np.ones(numbers)
    if tracks:
        mean = features.mean(axis=0)
        scale = spread(features)
    z = _standardised(features, mean, scale, classes)
    log_mean = features[:, :classes]
    of_posteriors = STATISTICS * classes
    of_sound = numbers - of_posteriors
    # Both keep the sound from deciding alone what few tracks cannot tell.
    for_few_tracks = min(1.0, max(tracks, 1) / _ENOUGH)
    for_many_statistics = min(1.0, _FEW / max(of_sound, 1))
    strength = np.full(numbers, regularization)
    strength[of_posteriors:] *= for_few_tracks * for_many_statistics
    of_biases = np.full(classes, regularization)
    of_weights = np.tile(strength, classes)
    penalty = 1 / np.concatenate([of_biases, of_weights])

    exponent, bias, weights = minimise_cross_entropy(z, labels, classes, penalty, log_mean)
    # One set of weights for all: the log of the mean comes first among the statistics.
    weights[:, :classes] += exponent * np.diag(scale[:classes])
    bias = bias + exponent * mean[:classes]
    rows = tuple(map(tuple, weights.tolist()))
    return Softmax(
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        coefficients=rows,
        intercept=tuple(bias.tolist()),
    )


def _standardised(features: Floats, mean: Floats, scale: Floats, classes: int) -> Floats:
    """Scale features [..., 2 C + K], the sound to a bounded range."""
    centred = features - mean
    z = np.asarray(centred / scale)
    first = STATISTICS * classes
    sound = z[..., first:]
    z[..., first:] = np.clip(sound, -FARTHEST, FARTHEST)
    return z


def minimise_cross_entropy(
    x: Floats,
    labels: Indices,
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
    one_hot = np.eye(classes)
    truth = one_hot[labels]
    shape = (len(x), classes)
    towards = np.zeros(shape) if offset is None else offset

    def penalised_loss(parameters: Floats) -> tuple[float, Floats]:
        exponent, bias, weights = _unpack(parameters, classes)
        penalised = parameters[1:]  # all but the exponent
        logits = exponent * towards + x @ weights.T + bias
        log_p = log_softmax(logits, axis=1)
        cross_entropy = -(log_p * truth).sum()
        squares = penalty * penalised**2
        loss = cross_entropy + squares.sum() / 2
        error = np.exp(log_p) - truth  # the derivative of cross-entropy by logit
        by_exponent = (error * towards).sum()
        by_bias = error.sum(axis=0)
        by_weight = (error.T @ x).ravel()
        by_logit = np.concatenate([by_bias, by_weight])
        by_logit += penalty * penalised
        gradient = np.concatenate([[by_exponent], by_logit])
        return loss, gradient

    width = x.shape[1]
    numbers = 1 + classes * (1 + width)
    start = np.zeros(numbers)
    start[0] = 1.0  # the offset as it is
    unbounded = (None, None)
    bounds = [_EXPONENTS] + [unbounded] * (numbers - 1)
    fitted = minimize(penalised_loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    best: Floats = fitted.x
    return _unpack(best, classes)


def _unpack(parameters: Floats, classes: int) -> tuple[float, Floats, Floats]:
    """Return exponent, bias [C] and weights [C, F] of a vector of parameters."""
    exponent = parameters[0]
    bias = parameters[1 : 1 + classes]
    weights = parameters[1 + classes :]
    return exponent, bias, weights.reshape(classes, -1).copy()
