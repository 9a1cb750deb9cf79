"""What speaks against a segment's inherited label, as one number in nats: the model, calibrated;
how little the segment sounds like its track; and what speaks against its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa

from schemas import Catalog
from schemas.records import later
from sssl.arrays import (
    Flags,
    Floats,
    Indices,
    column,
    fitted_to,
    inherited_indices,
    on_grid,
    posteriors,
    track_numbers,
)
from sssl.config import require
from sssl.labels.calibration import log_odds_against
from sssl.labels.consistency import TrackModel
from sssl.labels.sound_classifier import SecondOpinion, losses_by_share
from sssl.metrics import Z_95_ONE_SIDED

_REACH = 2  # segments to either side that are neighbours
_MIN_AGREEMENT_ALONE = 0.1  # of the network, without a classifier on the sound
_LEAST_VARIANCE = 1e-12  # keeps quotients finite where all segments are alike


@dataclass(frozen=True)
class EvidenceConfig:
    """What a split goes by beside the loss."""

    consistency: float = 0.8
    """Nats that a standard deviation of inconsistency counts, of how little a segment sounds like
    its track; beside them stand the model's log odds against the label, calibrated. 0: what a
    segment sounds like does not count."""
    neighbours: bool = True
    """Let the two segments to either side speak too, as far as neighbours tell anything about each
    other in this catalog: wrong stretches are often longer than a segment."""
    min_agreement: float | None = 0.2
    """Expect labels to be wrong in parts of tracks, and compare a segment with the rest of its
    track, where the model and the sound speak against the same segments of a track: the correlation
    of loss and inconsistency. Where labels are right both are noise of different origin. Nothing is
    relabelled unless two heaps come of it, too. The default counts as 0.1 where the network speaks
    alone. None: ask the mixture alone."""
    by_sound: bool = later(True, neutral=False)
    """Let a classifier on `segments.sound` speak beside the network, as far as both together make
    the labels of left-out tracks likelier. What an earlier version split without it stays so until
    a labelled track or another setting changes."""

    def __post_init__(self) -> None:
        require(self.consistency >= 0, "consistency", self.consistency, "0 or more")

    @property
    def as_before(self) -> EvidenceConfig:
        """What the same settings mean without a classifier on the sound, as to versions that had
        none; themselves where they rule it out."""
        if not self.by_sound:
            return self
        return replace(self, by_sound=False, min_agreement=self.min_agreement_alone)

    @property
    def min_agreement_alone(self) -> float | None:
        """`min_agreement` where the network speaks alone."""
        if self.min_agreement == EvidenceConfig.min_agreement:
            return _MIN_AGREEMENT_ALONE
        return self.min_agreement


@dataclass(frozen=True)
class Segments:
    """The scored segments of a part, in order."""

    posterior: Floats  # [N, C], NaN where there is none
    loss: Floats  # [N], NaN where there is none
    label: Indices  # [N]: the inherited one, -1 where there is none
    track: Indices  # [N]: one number per track
    fitted: Flags  # [N]: evidence is fitted to it
    sound: Floats | None  # [N, M], what the track model goes by

    @classmethod
    def of(
        cls,
        scores: pa.Table,
        tracks: Sequence[Catalog],
        classes: Sequence[str],
        sound: Floats | None,
        corrected: Indices | None = None,
    ) -> Segments:
        """Take what is needed from the scores and the tracks of a part. What a listener said of a
        segment (`corrected` [N], -1 where nothing) is known, so evidence is not fitted to it."""
        fitted = inherited_indices(scores, fitted_to(tracks), classes) >= 0
        if corrected is not None:
            fitted &= corrected < 0
        return cls(
            posteriors(scores, len(classes)),
            column(scores, "loss"),
            inherited_indices(scores, tracks, classes),
            track_numbers(scores),
            fitted,
            sound,
        )


@dataclass(frozen=True)
class Spread:
    """Sums over train segments that evidence is scaled by; they add up. The two quantities are the
    log odds against the label and the inconsistency, the negative of the log likelihood ratio."""

    segments: float
    tracks: float
    total: Floats  # [2]
    squares: Floats  # [2]
    own_own: Floats  # [2, 2]: products of the two, both less the track's mean
    own_around: Floats  # [2, 2]: products of a segment's own and its neighbours' mean, likewise
    around_around: Floats  # [2, 2]: the same of two neighbours' means

    def __add__(self, other: Spread) -> Spread:
        return Spread(
            self.segments + other.segments,
            self.tracks + other.tracks,
            self.total + other.total,
            self.squares + other.squares,
            self.own_own + other.own_own,
            self.own_around + other.own_around,
            self.around_around + other.around_around,
        )


@dataclass(frozen=True)
class Evidence:
    """How the log odds against a segment's label, its inconsistency and its neighbours become the
    loss that it is split by."""

    tracks: TrackModel | None = None
    temperature: float = 1.0
    """What makes posteriors as sure as they are right."""
    mean_odds: float = 0.0
    mean_inconsistency: float = 0.0
    unit: float = 0.0
    """Nats per unit of inconsistency."""
    between: float = 0.0
    """Variance of the log odds between tracks, in variances within one, where segments are compared
    with the rest of their track; 0: they are not."""
    neighbours: float = 0.0
    """Weight of the neighbours' mean against 1 of the segment's own."""
    agreement: float | None = None
    """Correlation of the two quantities among the segments of a track, the lower end of its
    one-sided 95 % interval: with few segments chance alone makes some. None without a track
    model."""
    in_parts: bool | None = None
    """Whether labels are wrong in parts of tracks: there model and sound agree. None where that is
    not asked."""
    second: SecondOpinion | None = None
    """What is mixed into the network's posteriors before anything else."""

    @property
    def share_of_sound(self) -> float:
        """Share of the second opinion."""
        return 0.0 if self.second is None else self.second.share

    @property
    def of_whole_tracks(self) -> Evidence:
        """The same where labels turned out not to be wrong in parts of tracks: a segment is not
        compared with the rest of its track, which may be hard as a whole."""
        return replace(self, between=0.0, in_parts=False)

    def losses(self, segments: Segments) -> tuple[Floats, Floats]:
        """Return the loss [N] to split by and the consistency [N], a log likelihood ratio; NaN
        where there is none."""
        if self.tracks is None and self.second is None and not self.neighbours:
            return segments.loss, np.full(len(segments.loss), np.nan)
        both = _quantities(segments, self.temperature, self.tracks)
        against = self._against(both, segments.track)
        around = around_in_track(against[:, None], segments.track)[:, 0]
        # The only segment of a track speaks for its neighbours, too.
        around = np.where(np.isfinite(around), around, against)
        mixed = (against + self.neighbours * around) / (1 + self.neighbours)
        inconsistency = both[:, 1]
        with np.errstate(invalid="ignore"):  # NaN stays NaN
            loss = np.logaddexp(0.0, mixed)
            return loss, -inconsistency

    def _against(self, both: Floats, track: Indices) -> Floats:
        """Add up the two quantities [N, 2] to one [N] in nats; the log odds alone where the other
        is NaN.

        Where labels are wrong in parts of tracks, what the others of its track let expect of a
        segment says how hard the track is, not that the label is wrong here. Elsewhere it is all
        there is: whole tracks may be wrong.
        """
        log_odds = beyond_others(both[:, 0], track, self.mean_odds, self.between)
        inconsistency = self.unit * (both[:, 1] - self.mean_inconsistency)
        known = np.where(np.isfinite(inconsistency), inconsistency, 0.0)
        return np.asarray(log_odds + known)


def sum_losses(segments: Segments, by_sound: Floats | None = None) -> Floats:
    """Sum up what temperature and share of a second opinion are fitted to, the posteriors [N, C] of
    the classifier on the sound: [S, T], see `losses_by_share`."""
    fitted = segments.fitted
    second = None if by_sound is None else by_sound[fitted]
    return losses_by_share(segments.posterior[fitted], second, segments.label[fitted])


def sum_spread(segments: Segments, temperature: float, model: TrackModel | None) -> Spread:
    """Sum up what evidence is scaled by."""
    both = _quantities(segments, temperature, model)
    if model is None:
        both[:, 1] = 0.0
    around = around_in_track(both, segments.track)
    is_whole = np.isfinite(both).all(axis=1)
    has_neighbours = np.isfinite(around).all(axis=1)
    counted = segments.fitted & is_whole & has_neighbours
    both = both[counted]
    around = around[counted]
    track = segments.track[counted]
    own = both - _mean_by(both, track)
    near = around - _mean_by(around, track)
    return Spread(
        segments=len(both),
        tracks=len(np.unique(track)),
        total=on_grid(both.sum(axis=0)),
        squares=on_grid((both**2).sum(axis=0)),
        own_own=on_grid(own.T @ own),
        own_around=on_grid(own.T @ near),
        around_around=on_grid(near.T @ near),
    )


def fit_evidence(
    sums: Spread | None,
    temperature: float,
    tracks: TrackModel | None,
    config: EvidenceConfig,
    second: SecondOpinion | None = None,
) -> Evidence:
    """Give inconsistency its unit; compare segments with the rest of their track where labels are
    wrong in parts of tracks; and give neighbours the weight at which they predict: the slope of a
    segment's own evidence on its neighbours' mean, both less the mean of the track, at most 1."""
    if sums is None or not sums.segments:
        return Evidence()
    mean = sums.total / sums.segments
    variance = sums.squares / sums.segments - mean**2
    variance = np.maximum(variance, _LEAST_VARIANCE)
    unit = 0.0
    agreement = None
    in_parts = None
    if tracks is not None:
        # At most what a log likelihood ratio says by itself: where all tracks sound alike it is
        # noise.
        unit = min(float(config.consistency / np.sqrt(variance[1])), 1.0)
        agreement = _lower_correlation(sums.own_own, sums.segments)
        least = config.min_agreement_alone if second is None else config.min_agreement
        if least is not None:
            in_parts = agreement >= least
    between = 0.0
    if in_parts:
        freedom = max(sums.segments - sums.tracks, 1)
        within = max(sums.own_own[0, 0] / freedom, _LEAST_VARIANCE)
        between = float(max(variance[0] / within - 1, 0.0))
    weights = np.array([1.0, unit])
    predicted = weights @ sums.own_around @ weights
    power = weights @ sums.around_around @ weights
    slope = 0.0
    if config.neighbours and power > 0:
        slope = float(np.clip(predicted / power, 0.0, 1.0))
    return Evidence(
        tracks=tracks,
        temperature=temperature,
        mean_odds=float(mean[0]),
        mean_inconsistency=float(mean[1]),
        unit=unit,
        between=between,
        neighbours=slope,
        agreement=agreement,
        in_parts=in_parts,
        second=second,
    )


def beyond_others(values: Floats, track: Indices, mean: float, between: float) -> Floats:
    """Return values [N] less what the others of their track let expect beyond the mean: few others
    say little of a track, whose mean varies by `between` times the variance within.

    What is left varies the more the fewer others there are; scaled as in a long track, else short
    ones would be far out more often.
    """
    beyond = values - mean
    known = np.isfinite(values)
    sums = np.bincount(track, np.where(known, beyond, 0.0))
    counts = np.bincount(track, known)
    others = sums[track] - beyond
    count_of_others = counts[track] - known
    unknown = between / (1 + between * count_of_others)  # variance of the track's own mean
    left = beyond - unknown * others
    return np.asarray(mean + left / np.sqrt(1 + unknown))


def _lower_correlation(products: Floats, count: float) -> float:
    """Return the lower end of the interval of a correlation, by Fisher's transformation."""
    power = max(products[0, 0] * products[1, 1], _LEAST_VARIANCE)
    correlation = products[0, 1] / np.sqrt(power)
    # Short of 1, where the transformation is infinite.
    z = np.arctanh(np.clip(correlation, -0.999, 0.999))
    half_width = Z_95_ONE_SIDED / np.sqrt(max(count - 3, 1))
    return float(np.tanh(z - half_width))


def around_in_track(values: Floats, track: Indices) -> Floats:
    """Return the mean [N, K] over a segment's neighbours in its track, of what is finite; NaN where
    nothing is."""
    known = np.isfinite(values)
    total = np.zeros_like(values)
    count = np.zeros_like(values)
    for shift in range(1, min(_REACH, len(values) - 1) + 1):
        before = slice(None, -shift)
        after = slice(shift, None)
        is_same = track[after] == track[before]
        for here, there in ((after, before), (before, after)):
            seen = is_same[:, None] & known[there]
            total[here] += np.where(seen, values[there], 0.0)
            count[here] += seen
    mean = total / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


def _quantities(segments: Segments, temperature: float, tracks: TrackModel | None) -> Floats:
    """Return the log odds against the labels and the inconsistency [N, 2]; NaN where there is
    none."""
    inconsistency = np.full(len(segments.label), np.nan)
    if tracks is not None and segments.sound is not None and len(inconsistency):
        inconsistency = -tracks.consistency(segments.sound, segments.track)
    log_odds = log_odds_against(segments.posterior, segments.label, temperature)
    return np.stack([log_odds, inconsistency], axis=1)


def _mean_by(values: Floats, track: Indices) -> Floats:
    """Return for each row the mean [N, K] of its track."""
    by_track = pd.DataFrame(values).groupby(track)
    return np.asarray(by_track.transform("mean").to_numpy())
