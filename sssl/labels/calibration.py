"""How sure a model may be: the temperature that makes its posteriors fit the labels they were not
trained on.

Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", 2017. Fitted by sums over
a grid, which add up over parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sssl.arrays import Floats, on_grid

TEMPERATURES = np.geomspace(0.5, 10.0, 61)  # steps of 5 %: the likelihood is flat around its best
_LEAST = 1e-6  # probability, as in the loss of scores


def sharpen(probabilities: Floats, temperature: float) -> Floats:
    """Return p^(1/T) / sum by row of [N, C]: lower temperatures move mass to the largest class."""
    powered = np.power(probabilities, 1.0 / temperature)
    return np.asarray(powered / powered.sum(axis=1, keepdims=True))


def losses_by_temperature(posterior: Floats, label: NDArray[np.int64]) -> Floats:
    """Return the sum of -log p of labels [N] under posteriors [N, C] at each of the temperatures;
    rows without a label or a posterior do not count."""
    known = (label >= 0) & np.isfinite(posterior).all(axis=1)
    kept = np.maximum(posterior[known], _LEAST)
    of = label[known]
    rows = np.arange(len(of))
    return on_grid(np.array([-np.log(sharpen(kept, t)[rows, of]).sum() for t in TEMPERATURES]))


def fit_temperature(losses: Floats | None) -> float:
    """Return the likeliest temperature; 1 of nothing."""
    if losses is None or not losses.any():
        return 1.0
    return float(TEMPERATURES[np.argmin(losses)])


def log_odds_against(posterior: Floats, label: NDArray[np.int64], temperature: float) -> Floats:
    """Return log((1 - p) / p) [N] of labels under posteriors [N, C] at a temperature; NaN where
    either is missing."""
    p = sharpen(np.maximum(posterior, _LEAST), temperature)[
        np.arange(len(label)), np.maximum(label, 0)
    ]
    p = np.clip(p, _LEAST, 1 - _LEAST)
    return np.where(label >= 0, np.log1p(-p) - np.log(p), np.nan)
