"""How sure a model may be: the temperature that makes its posteriors fit the labels they were not
trained on.

Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", 2017. Fitted by sums over
a grid, which add up over parts.
"""

from __future__ import annotations

import numpy as np

from sssl.arrays import Floats, Indices, on_grid
from sssl.metrics import LEAST_PROBABILITY

TEMPERATURES = np.geomspace(0.5, 10.0, 61)  # steps of 5 %: the likelihood is flat around its best


def sharpen(probabilities: Floats, temperature: float) -> Floats:
    """Return p^(1/T) / sum by row of [N, C]: lower temperatures move mass to the largest class."""
    powered = np.power(probabilities, 1.0 / temperature)
    total = powered.sum(axis=1, keepdims=True)
    return np.asarray(powered / total)


def losses_by_temperature(posterior: Floats, label: Indices) -> Floats:
    """Return the sum of -log p of labels [N] under posteriors [N, C] at each of the temperatures;
    rows without a label or a posterior do not count."""
    known = (label >= 0) & np.isfinite(posterior).all(axis=1)
    # Bounded like the losses of `scores`, at each temperature.
    kept = np.maximum(posterior[known], LEAST_PROBABILITY)
    of = label[known]
    rows = np.arange(len(of))
    sums = []
    for temperature in TEMPERATURES:
        p = sharpen(kept, temperature)[rows, of]
        sums.append(-np.log(p).sum())
    return on_grid(np.array(sums))


def fit_temperature(losses: Floats | None) -> float:
    """Return the likeliest temperature; 1 of nothing."""
    if losses is None or not losses.any():
        return 1.0
    return float(TEMPERATURES[np.argmin(losses)])


def log_odds_against(posterior: Floats, label: Indices, temperature: float) -> Floats:
    """Return log((1 - p) / p) [N] of labels under posteriors [N, C] at a temperature; NaN where
    either is missing."""
    rows = np.arange(len(label))
    floored = np.maximum(posterior, LEAST_PROBABILITY)
    calibrated = sharpen(floored, temperature)
    p = calibrated[rows, np.maximum(label, 0)]
    p = np.clip(p, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    log_odds = np.log1p(-p) - np.log(p)
    return np.where(label >= 0, log_odds, np.nan)
