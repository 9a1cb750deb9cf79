"""How near the valence and arousal of songs come to those of the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal

import numpy as np
import pandas as pd

from sssl.catalog.plane import AXES
from sssl.metrics import agreement

Better = Literal["higher", "lower"]
Metrics = dict[str, float | None]

_OF_AXIS: tuple[tuple[str, str, Better], ...] = (
    ("r2", "R2", "higher"),
    ("rmse", "RMSE", "lower"),
    ("ccc", "CCC", "higher"),
    ("coverage", "in 90 % interval", "higher"),
)


def _metrics() -> list[tuple[str, str, Better]]:
    found = []
    for axis in AXES:
        for name, title, better in _OF_AXIS:
            found.append((f"{axis}_{name}", f"{axis} {title}", better))
    return found


NUMBER_METRICS = _metrics()
"""Name, title and direction of each metric."""


def number_metrics(songs: pd.DataFrame, numbers: Mapping[str, tuple[float, float]]) -> Metrics:
    """Return how near the valence and arousal of songs come to the true numbers of tracks, and how
    many of these lie in their interval; nothing where songs have none."""
    is_known = songs["track_id"].isin(numbers)
    has_numbers = songs["valence"].notna()
    known = songs[is_known & has_numbers]
    metrics: Metrics = {}
    if known.empty:
        return metrics
    true = np.array([numbers[track_id] for track_id in known["track_id"]])
    for number, axis in enumerate(AXES):
        own = true[:, number]
        said = known[axis].to_numpy(float)
        found = asdict(agreement(own, said))
        for name, value in found.items():
            metrics[f"{axis}_{name}"] = value
        is_above = known[f"{axis}_low"].le(own)
        is_below = known[f"{axis}_high"].ge(own)
        is_within = is_above & is_below
        metrics[f"{axis}_coverage"] = float(is_within.mean())
    return metrics
