"""What speaks against a segment's inherited label, as one number: the model's loss, how little the segment sounds like
its track, and what speaks against its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from schemas import Catalog
from sssl import mixture as mix
from sssl.config import require
from sssl.consistency import TrackModel, on_grid
from sssl.metrics import Z_95_ONE_SIDED

Floats = NDArray[np.float64]

_REACH = 2  # segments to either side that are neighbours


@dataclass(frozen=True)
class EvidenceConfig:
    """What a split goes by beside the loss."""

    consistency: float = 0.5
    """Share of what speaks against a label that comes from how little a segment sounds like its track; the rest is the
    model's loss. 0: the loss alone."""
    neighbours: bool = True
    """Let the two segments to either side speak too, as far as neighbours tell anything about each other in this
    catalog: wrong stretches are often longer than a segment."""

    def __post_init__(self) -> None:
        require(0 <= self.consistency < 1, "consistency", self.consistency, "0 to below 1")


@dataclass(frozen=True)
class Spread:
    """Sums over train segments that evidence is scaled by; they add up. The two quantities are the logit of the loss
    and the inconsistency, the negative of the log likelihood ratio."""

    segments: float
    total: Floats  # [2]
    squares: Floats  # [2]
    own_own: Floats  # [2, 2]: products of the two, both less the track's mean
    own_around: Floats  # [2, 2]: products of a segment's own and its neighbours' mean, likewise
    around_around: Floats  # [2, 2]: the same of two neighbours' means

    def __add__(self, other: Spread) -> Spread:
        return Spread(
            self.segments + other.segments,
            self.total + other.total,
            self.squares + other.squares,
            self.own_own + other.own_own,
            self.own_around + other.own_around,
            self.around_around + other.around_around,
        )


@dataclass(frozen=True)
class Evidence:
    """How the logit of a segment's loss, its inconsistency and its neighbours become the loss that it is split by."""

    tracks: TrackModel | None = None
    consistency: float = 0.0
    """Share of the inconsistency."""
    mean_logit: float = 0.0
    mean_inconsistency: float = 0.0
    unit: float = 1.0
    """Logits a unit of inconsistency: what gives both the same standard deviation."""
    neighbours: float = 0.0
    """Weight of the neighbours' mean against 1 of the segment's own."""
    agreement: float | None = None
    """Correlation of the two quantities among the segments of a track, the lower end of its one-sided 95 % interval:
    with few segments chance alone makes some. None without a track model."""

    def losses(self, scores: pa.Table, levels: Floats | None) -> tuple[Floats, Floats]:
        """Return the loss [N] to split by and the consistency [N], the log likelihood ratio, of scored segments with
        band levels [N, M]; NaN where there is none."""
        own = column(scores, "loss")
        if self.tracks is None and not self.neighbours:
            return own, np.full(len(own), np.nan)
        track = track_numbers(scores)
        both = _quantities(own, self.tracks, levels, track)
        against = self._against(both)
        around = around_in_track(against[:, None], track)[:, 0]
        mixed = (against + self.neighbours * np.where(np.isfinite(around), around, against)) / (1 + self.neighbours)
        with np.errstate(invalid="ignore"):  # NaN stays NaN
            return np.logaddexp(0.0, mixed), -both[:, 1]

    def _against(self, both: Floats) -> Floats:
        """Combine the two quantities [N, 2] to one [N] on the logit's scale; the logit alone where the other is NaN."""
        logit = both[:, 0] - self.mean_logit
        inconsistency = self.unit * (both[:, 1] - self.mean_inconsistency)
        combined = (1 - self.consistency) * logit + self.consistency * inconsistency
        return np.asarray(self.mean_logit + np.where(np.isfinite(inconsistency), combined, logit))


def sum_spread(scores: pa.Table, levels: Floats | None, tracks: Sequence[Catalog], model: TrackModel | None) -> Spread:
    """Sum up what evidence is scaled by over the segments of train tracks whose labels are not locked."""
    track = track_numbers(scores)
    both = _quantities(column(scores, "loss"), model, levels, track)
    if model is None:
        both[:, 1] = 0.0
    usable = {t.track_id for t in tracks if t.label is not None and t.split == "train" and not t.locked}
    around = around_in_track(both, track)
    counted = np.isin(scores["track_id"].to_numpy(zero_copy_only=False), list(usable))
    counted &= np.isfinite(both).all(axis=1) & np.isfinite(around).all(axis=1)
    both, around, track = both[counted], around[counted], track[counted]
    own, near = (x - _mean_by(x, track) for x in (both, around))
    sums = (both.sum(axis=0), (both**2).sum(axis=0), own.T @ own, own.T @ near, near.T @ near)
    return Spread(len(both), *map(on_grid, sums))


def fit_evidence(sums: Spread | None, tracks: TrackModel | None, config: EvidenceConfig) -> Evidence:
    """Bring inconsistency to the logit's scale, and give neighbours the weight at which they predict: the slope of a
    segment's own evidence on its neighbours' mean, both less the mean of the track, at most 1."""
    if sums is None or not sums.segments:
        return Evidence()
    mean = sums.total / sums.segments
    std = np.sqrt(np.maximum(sums.squares / sums.segments - mean**2, 1e-12))
    share = config.consistency if tracks is not None else 0.0
    unit = float(std[0] / std[1]) if share else 0.0
    weights = np.array([1 - share, share * unit])
    predicted, power = weights @ sums.own_around @ weights, weights @ sums.around_around @ weights
    slope = float(np.clip(predicted / power, 0.0, 1.0)) if config.neighbours and power > 0 else 0.0
    agreement = None if tracks is None else _lower_correlation(sums.own_own, sums.segments)
    return Evidence(tracks, share, float(mean[0]), float(mean[1]), unit, slope, agreement)


def _lower_correlation(products: Floats, count: float) -> float:
    """Return the lower end of the interval of a correlation, by Fisher's transformation."""
    correlation = products[0, 1] / np.sqrt(max(products[0, 0] * products[1, 1], 1e-12))
    z = np.arctanh(np.clip(correlation, -0.999, 0.999)) - Z_95_ONE_SIDED / np.sqrt(max(count - 3, 1))
    return float(np.tanh(z))


def around_in_track(values: Floats, track: NDArray[np.int64]) -> Floats:
    """Return the mean [N, K] over a segment's neighbours in its track, of what is finite; NaN where nothing is."""
    known = np.isfinite(values)
    total, count = np.zeros_like(values), np.zeros_like(values)
    for shift in range(1, min(_REACH, len(values) - 1) + 1):
        same = (track[shift:] == track[:-shift])[:, None]
        for here, there in ((slice(shift, None), slice(None, -shift)), (slice(None, -shift), slice(shift, None))):
            seen = same & known[there]
            total[here] += np.where(seen, values[there], 0.0)
            count[here] += seen
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def column(table: pa.Table, name: str) -> Floats:
    """Return a numeric column [N], NaN where it is null."""
    return np.asarray(table[name].to_pandas().to_numpy(dtype=np.float64, na_value=np.nan))


def track_numbers(table: pa.Table) -> NDArray[np.int64]:
    """Number the tracks of a table's rows [N] from 0."""
    return np.asarray(pd.factorize(table["track_id"].to_pandas())[0], dtype=np.int64)


def _quantities(loss: Floats, tracks: TrackModel | None, levels: Floats | None, track: NDArray[np.int64]) -> Floats:
    """Return the logit of the loss and the inconsistency [N, 2]; NaN where there is none."""
    inconsistency = np.full(len(loss), np.nan)
    if tracks is not None and levels is not None and len(loss):
        inconsistency = -tracks.consistency(levels, track)
    return np.stack([mix.to_axis(loss, "logit"), inconsistency], axis=1)


def _mean_by(values: Floats, track: NDArray[np.int64]) -> Floats:
    """Return for each row the mean [N, K] of its track."""
    return np.asarray(pd.DataFrame(values).groupby(track).transform("mean").to_numpy())
