"""Below which confidence a song's label is not published, by tracks that were left out of the
fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sssl.arrays import Flags, Floats
from sssl.metrics import Z_95_ONE_SIDED, wilson
from sssl.songs.settings import SongConfig

_FEWEST_IN_BIN = 10  # a share of fewer tracks says nothing
_MOST_BINS = 10  # a curve of more is not read more exactly


@dataclass(frozen=True)
class Threshold:
    """Below which confidence songs abstain (None: all do), and how many of the train tracks above
    it are right.

    `wanted_precision` is None where the threshold was given. `precision_low` is the lower end of
    Wilson's one-sided interval at 95 %, for tracks taken as independent.
    """

    abstain_below: float | None
    wanted_precision: float | None
    left_out_tracks: int
    tracks_above: int
    right_above: int
    precision_low: float | None

    def abstains(self, confidence: float) -> bool:
        return self.abstain_below is None or confidence < self.abstain_below


def choose_threshold(confidence: Floats, correct: Flags, config: SongConfig) -> Threshold:
    """Choose the confidence below which songs abstain, by the confidence [N] and correctness [N] of
    left-out tracks.

    The lowest one wins above which the interval of the share of right ones reaches the wanted
    precision. The share by itself would promise too much every other time.
    """
    if config.wanted_precision is None:
        return _threshold(confidence, correct, config.abstain_below, None)
    # Negative, so that the surest come first; tracks of the same confidence pass or fail together.
    candidates, counts = np.unique(-confidence, return_counts=True)
    above = counts.cumsum()
    surest_first = np.argsort(-confidence, kind="stable")
    right = correct[surest_first].cumsum()[above - 1]
    low, _ = wilson(right / above, above, Z_95_ONE_SIDED)
    # Not the first that passes: a share may dip and rise again as less sure songs come in.
    passing = np.flatnonzero(low >= config.wanted_precision)
    lowest = _rounded_down(float(-candidates[passing[-1]])) if len(passing) else None
    return _threshold(confidence, correct, lowest, config.wanted_precision)


def bins_for(tracks: int) -> int:
    """Return in how many bins a reliability curve of so many tracks is drawn."""
    return max(1, min(_MOST_BINS, tracks // _FEWEST_IN_BIN))


def _rounded_down(confidence: float) -> float:
    # The track whose confidence it is must not fall below it by another order of sums.
    return math.floor(confidence * 1e6) / 1e6


def _threshold(
    confidence: Floats,
    correct: Flags,
    abstain_below: float | None,
    wanted: float | None,
) -> Threshold:
    # Without a threshold nothing is above it.
    above = confidence >= (np.inf if abstain_below is None else abstain_below)
    tracks = int(above.sum())
    right = int(correct[above].sum())
    low = float(wilson(right / tracks, tracks, Z_95_ONE_SIDED)[0]) if tracks else None
    return Threshold(abstain_below, wanted, len(confidence), tracks, right, low)
