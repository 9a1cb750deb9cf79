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
from scipy import linalg

from sssl.arrays import Floats, Indices, on_grid, real_lists
from sssl.audio.sound import without_levels

_FLOOR_DB = -80.0  # what lies below is the noise of codecs and the lack of it
_FREEDOM = 50.0  # of Student's t, for all numbers of a segment together
_LEAST_VARIANCE = 1e-6  # dB^2, of a band that is silent throughout
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


def sound_moments(sound: Floats, track: Indices) -> SoundMoments:
    """Sum up the sound [N, M] in dB of segments whose tracks are numbered [N]."""
    sums, counts = _sums(sound, track)
    means = sums / np.maximum(counts, 1)[:, None]
    total = sound.sum(axis=0)
    outer = sound.T @ sound
    weighted = means * counts[:, None]
    track_outer = weighted.T @ means
    tracks = int((counts > 0).sum())
    return SoundMoments(len(sound), tracks, on_grid(total), on_grid(outer), on_grid(track_outer))


@dataclass(frozen=True)
class TrackModel:
    """How sound varies in the catalog and within a track, along factors in which neither is
    correlated: the variance around a track's mean is 1, that of the means of tracks is
    `between`."""

    mean: Floats  # [M]
    factors: Floats  # [M, M]: sound less its mean, times this, are factors
    between: Floats  # [M]

    def consistency(self, sound: Floats, track: Indices) -> Floats:
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
        sum_of_others = sums[track] - x
        expected = self.between / known * sum_of_others
        here = 1 + self.between / known
        anywhere = 1 + self.between
        given_others = _log_density(x - expected, here)
        ratio = given_others - _log_density(x, anywhere)
        return np.where(others[:, 0] > 0, ratio, np.nan)


def fit_track_model(moments: SoundMoments | None) -> TrackModel | None:
    """Fit the model; None if there are fewer segments than numbers per segment, or no two of a
    track."""
    if moments is None:
        return None
    numbers = len(moments.total)
    if moments.segments < numbers or moments.segments <= moments.tracks:
        return None
    mean = moments.total / moments.segments
    overall = moments.outer / moments.segments - np.outer(mean, mean)
    freedom = moments.segments - moments.tracks
    within = (moments.outer - moments.track_outer) / freedom
    # In units of the catalog's standard deviation, so that the ridge means the same for every band.
    scale = np.sqrt(np.maximum(np.diag(overall), _LEAST_VARIANCE))
    units = np.outer(scale, scale)
    between = (overall - within) / units
    ridge = _RIDGE * np.eye(numbers)
    # Both covariances are diagonal along the generalised eigenvectors.
    variances, factors = linalg.eigh(between, within / units + ridge)
    return TrackModel(mean, factors / scale[:, None], np.maximum(variances, 0.0))


def _log_density(x: Floats, variance: Floats) -> Floats:
    """Return the log density [N] of a multivariate t at x [N, M], but for a constant, given its
    variances by factor."""
    numbers = x.shape[1]
    squares = (x**2 / variance).sum(axis=1)
    log_variance = np.broadcast_to(np.log(variance), x.shape)
    peak = log_variance.sum(axis=1)
    tail = (_FREEDOM + numbers) * np.log1p(squares / _FREEDOM)
    return -0.5 * np.asarray(tail + peak)


def _sums(x: Floats, track: Indices) -> tuple[Floats, Indices]:
    """Return the sum [T, M] and the number [T] of rows by track."""
    counts = np.bincount(track)
    shape = (len(counts), x.shape[1])
    sums = np.zeros(shape)
    np.add.at(sums, track, x)
    return sums, counts
