"""Metrics of labels and of their confidence.

Confusion counts [C, C] have the true class in rows; they add up over parts and workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


LEAST_PROBABILITY = 1e-6
"""What a posterior is clipped at before its logarithm is taken: a loss is 13.8 nats at most, so
that no single segment outweighs all others."""
Z_95 = 1.96  # two-sided: both ends of an interval
Z_95_ONE_SIDED = 1.645


@dataclass(frozen=True)
class Quality:
    """Quality of predicted labels; the metrics are None where there is nothing to measure."""

    tracks: int
    accuracy: float | None
    macro_f1: float | None


def quality(confusion: Floats) -> Quality:
    """Return accuracy and macro-F1 of a confusion matrix; a class that never occurs does not count
    in the mean."""
    total = confusion.sum()
    if not total:
        return Quality(0, None, None)
    hits = np.diag(confusion)
    true = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    f1 = 2 * hits / np.maximum(true + predicted, 1)
    return Quality(int(total), float(hits.sum() / total), float(f1[true > 0].mean()))


def confusion(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Floats:
    """Count pairs of true and predicted classes [C, C]."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (true, predicted), 1)
    return counts


def wilson(share: ArrayLike, count: ArrayLike, z: float = Z_95) -> tuple[Floats, Floats]:
    """Return both ends of Wilson's confidence interval of shares of `count` independent cases, at
    least one."""
    share = np.asarray(share, float)
    z2 = z**2 / np.asarray(count, float)
    center = share + z2 / 2
    reach = np.sqrt(z2 * share * (1 - share) + z2**2 / 4)
    return (center - reach) / (1 + z2), (center + reach) / (1 + z2)


@dataclass(frozen=True)
class Agreement:
    """How well numbers were predicted; the metrics are None where there is nothing to measure."""

    r2: float | None
    rmse: float | None
    ccc: float | None


def agreement(true: Floats, found: Floats) -> Agreement:
    """Return the coefficient of determination, the root mean squared error, and the concordance
    correlation coefficient (Lin, "A concordance correlation coefficient to evaluate
    reproducibility", 1989) of predictions [N]; of numbers that are all the same only the error."""
    if not len(true):
        return Agreement(None, None, None)
    squares = float(np.mean((true - found) ** 2))
    variance = float(true.var())
    rmse = squares**0.5
    if variance == 0:
        return Agreement(None, rmse, None)
    covariance = float(np.mean((true - true.mean()) * (found - found.mean())))
    bias = float(true.mean() - found.mean())
    ccc = 2 * covariance / (variance + float(found.var()) + bias**2)
    return Agreement(1 - squares / variance, rmse, ccc)


@dataclass(frozen=True)
class Bin:
    """Songs of similar confidence: how many, their mean confidence, and the share of them that is
    right."""

    tracks: int
    confidence: float
    accuracy: float


def reliability(confidence: Floats, correct: NDArray[np.bool_], bins: int) -> list[Bin]:
    """Sort songs [N] by confidence into bins of equal mass; bins of equal width would leave most of
    them empty."""
    order = np.argsort(confidence, kind="stable")
    parts = [rows for rows in np.array_split(order, bins) if len(rows)]
    return [
        Bin(len(rows), float(confidence[rows].mean()), float(correct[rows].mean()))
        for rows in parts
    ]


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """Return the expected calibration error over bins of equal mass (Nixon et al., "Measuring
    Calibration in Deep Learning", 2019): the mean distance of confidence and accuracy. None without
    songs."""
    songs = sum(one.tracks for one in bins)
    if not songs:
        return None
    distances = [one.tracks * abs(one.confidence - one.accuracy) for one in bins]
    return sum(distances) / songs
