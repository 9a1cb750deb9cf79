"""Whether a segment sounds like the rest of its track.

A label is about the track as a whole. A segment that does not belong with the others (another
section, a jingle, applause) is less likely to share it, whatever a classifier thinks of either.
Sound is the mean level of each mel band, and how levels move; belonging is a log likelihood ratio
under the two-covariance model of speaker verification (Brümmer and de Villiers, "The speaker
partitioning problem", 2010): the sound of a track varies around its mean by one covariance, that of
the whole catalog by another. Both are heavy-tailed, as in Kenny, "Bayesian speaker verification
with heavy-tailed priors", 2010: under Gaussians all segments of an unusual track would belong to it
beyond all bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import linalg

from sssl.arrays import Floats, on_grid, real_lists
from sssl.audio.sound import without_levels

_FLOOR_DB = -80.0  # what lies below is the noise of codecs and the lack of it
_FREEDOM = 50.0  # of Student's t, for all numbers of a segment together
_RIDGE = 0.1  # of the variance: bands are correlated, and few tracks say little about how


@dataclass(frozen=True)
class SoundMoments:
    """Sums over segments with sound x [M], and over tracks with their mean m and n segments; they
    add up."""

    segments: float
    tracks: float
    total: Floats  # [M]: sum of x
    outer: Floats  # [M, M]: sum of x x'
    track_outer: Floats  # [M, M]: sum of n m m'

    def __add__(self, other: SoundMoments) -> SoundMoments:
        return SoundMoments(
            self.segments + other.segments,
            self.tracks + other.tracks,
            self.total + other.total,
            self.outer + other.outer,
            self.track_outer + other.track_outer,
        )


def track_sound(segments: pa.Table, sound: Floats) -> Floats:
    """Return what tracks are known by [N, M]: the level of each mel band of a segments table, and
    from its sound [N, K] how much the levels of groups of bands vary and step."""
    levels = real_lists(segments, "band_level_db")
    if not len(levels):
        return np.empty((0, 0))
    floored = np.maximum(levels, _FLOOR_DB)
    return np.concatenate([floored, without_levels(sound)], axis=1)


def sound_moments(sound: Floats, track: NDArray[np.int64]) -> SoundMoments:
    """Sum up the sound [N, M] in dB of segments whose tracks are numbered [N]."""
    sums, counts = _sums(sound, track)
    means = sums / np.maximum(counts, 1)[:, None]
    added = map(on_grid, (sound.sum(axis=0), sound.T @ sound, (means * counts[:, None]).T @ means))
    return SoundMoments(len(sound), int((counts > 0).sum()), *added)


@dataclass(frozen=True)
class TrackModel:
    """How sound varies in the catalog and within a track, along factors in which neither is
    correlated: the variance around a track's mean is 1, that of the means of tracks is
    `between`."""

    mean: Floats  # [M]
    factors: Floats  # [M, M]: sound less its mean, times this, are factors
    between: Floats  # [M]

    def consistency(self, sound: Floats, track: NDArray[np.int64]) -> Floats:
        """Return the log likelihood ratio [N] of segments given the others of their track against
        any segment; NaN for the only segment of a track.

        Few others say little about where a track's mean lies, so in short tracks the ratio is
        closer to 0.
        """
        x = (sound - self.mean) @ self.factors
        sums, counts = _sums(x, track)
        others = (counts - 1)[track][:, None]
        # The track's mean given the others: normal around `expected`, with variance between /
        # known.
        known = 1 + others * self.between
        expected = self.between / known * (sums[track] - x)
        here = 1 + self.between / known
        anywhere = 1 + self.between
        ratio = _log_density(x - expected, here) - _log_density(x, anywhere)
        return np.where(others[:, 0] > 0, ratio, np.nan)


def fit_track_model(moments: SoundMoments | None) -> TrackModel | None:
    """Fit the model; None if there are fewer segments than numbers a segment, or no two of a
    track."""
    if (
        moments is None
        or moments.segments < len(moments.total)
        or moments.segments <= moments.tracks
    ):
        return None
    mean = moments.total / moments.segments
    overall = moments.outer / moments.segments - np.outer(mean, mean)
    within = (moments.outer - moments.track_outer) / (moments.segments - moments.tracks)
    scale = np.sqrt(np.maximum(np.diag(overall), 1e-6))
    within, between = (
        covariance / np.outer(scale, scale) for covariance in (within, overall - within)
    )
    between, factors = linalg.eigh(between, within + _RIDGE * np.eye(len(mean)))
    return TrackModel(mean, factors / scale[:, None], np.maximum(between, 0.0))


def _log_density(x: Floats, variance: Floats) -> Floats:
    """Return the log density [N] of a multivariate t at x [N, M], but for a constant, given its
    variances by factor."""
    squares = (x**2 / variance).sum(axis=1)
    peak = np.broadcast_to(np.log(variance), x.shape).sum(axis=1)
    return -0.5 * np.asarray((_FREEDOM + x.shape[1]) * np.log1p(squares / _FREEDOM) + peak)


def _sums(x: Floats, track: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Return the sum [T, M] and the number [T] of rows by track."""
    counts = np.bincount(track)
    sums = np.zeros((len(counts), x.shape[1]))
    np.add.at(sums, track, x)
    return sums, counts
