"""Metrics of labels, from confusion counts [C, C] with the true class in rows. Counts add up over parts and workers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Quality:
    """Quality of predicted labels; the metrics are None where there is nothing to measure."""

    tracks: int
    accuracy: float | None
    macro_f1: float | None


def quality(confusion: Floats) -> Quality:
    """Return accuracy and macro-F1 of a confusion matrix; a class that never occurs does not count in the mean."""
    total = confusion.sum()
    if not total:
        return Quality(0, None, None)
    hits, true, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    f1 = 2 * hits / np.maximum(true + predicted, 1)
    return Quality(int(total), float(hits.sum() / total), float(f1[true > 0].mean()))


def confusion(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Floats:
    """Count pairs of true and predicted classes [C, C]."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (true, predicted), 1)
    return counts
