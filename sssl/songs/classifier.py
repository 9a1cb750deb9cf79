"""Segment posteriors and sound to a track's emotion: statistics, a calibrated linear classifier over them, and a
timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from schemas import Catalog, Song
from schemas.summaries import SongsSummary, confusions_of
from sssl.config import require
from sssl.metrics import Z_95_ONE_SIDED, Bin, reliability, wilson

Floats = NDArray[np.float64]
Splits = list[tuple[NDArray[np.int64], NDArray[np.int64]]]  # rows to fit to, rows left out
STATISTICS = 2  # a class, of the posteriors
_FLOOR = 1e-4  # of a posterior: one segment must not decide a track
_LEFT_OUT_FOLDS = 5
_FEWEST_IN_BIN = 10  # a share of fewer tracks says nothing
_MOST_BINS = 10
_EXPONENTS = (0.0, 10.0)
_FARTHEST = 3.0  # standard deviations of the sound of train tracks
_ENOUGH = 100  # tracks: with fewer, weights fitted to the sound make probabilities too sure (LOG.md)


@dataclass(frozen=True)
class SongConfig:
    """How segment posteriors and sound become a song's emotion."""

    abstain_below: float = 0.5
    """Abstain below this confidence."""
    wanted_precision: float | None = None
    """Abstain instead below the lowest confidence above which at least this share of labels is right. Train tracks that
    were left out of the fit have to show it, by the lower end of a 95 % interval; where none show it, all songs
    abstain."""
    smooth_segments: int = 3
    """Timeline: centred moving average of the posterior over so many segments, an odd number; 1 turns it off."""
    regularization: float = 0.1
    """How far the song classifier may go beyond the mean posterior: inverse L2 strength (scikit-learn's C)."""
    sound: bool = True
    """Let the sound of a track tell its emotion too, beside the posteriors of its segments."""

    def __post_init__(self) -> None:
        wanted = self.wanted_precision
        require(wanted is None or 0 < wanted < 1, "wanted_precision", wanted, "a share between 0 and 1")
        require(self.smooth_segments % 2 == 1, "smooth_segments", self.smooth_segments, "an odd number")


def statistics(posterior: Floats, sound: Floats) -> Floats:
    """Summarise a track as features [2 C + K]: of its segment posteriors [N, C] the log of their mean, and the mean of
    their logs, in which the segments that speak against a class count for more; of its sound [N, K] the mean.

    What is taken of the posteriors changes little when they become smoother, as the mean of several members is; maxima
    and shares above a threshold change much.
    """
    log_mean = np.log(np.maximum(posterior.mean(axis=0), _FLOOR))
    return np.concatenate([log_mean, np.log(np.maximum(posterior, _FLOOR)).mean(axis=0), sound.mean(axis=0)])


@dataclass(frozen=True)
class SongClassifier:
    """A fitted softmax over standardised statistics, as plain numbers: it travels as a side input and as JSON."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]
    intercept: tuple[float, ...]

    @property
    def knows_sound(self) -> bool:
        """Whether it was fitted to the sound of tracks, too."""
        return len(self.mean) > STATISTICS * len(self.intercept)

    def probabilities(self, features: Floats) -> Floats:
        """Return the class probabilities [C] of one track's statistics; of the first of them, if it knows no more."""
        known, classes = features[: len(self.mean)], len(self.intercept)
        x = _standardised(known, np.array(self.mean), np.array(self.scale), classes)
        logits = np.array(self.coefficients) @ x + np.array(self.intercept)
        powers = np.exp(logits - logits.max())
        return np.asarray(powers / powers.sum())

    def without_sound(self, posterior: Floats) -> Floats:
        """Return the class probabilities [C] of a track with such posteriors [N, C] and the sound of an average one."""
        average = np.array(self.mean)[STATISTICS * len(self.intercept) :]
        return self.probabilities(statistics(posterior, average[None]))


@dataclass(frozen=True)
class Threshold:
    """Below which confidence songs abstain (None: all do), and how many of the train tracks above it are right.

    `wanted_precision` is None where the threshold was given. `precision_low` is the lower end of Wilson's one-sided
    interval at 95 %, for tracks taken as independent.
    """

    abstain_below: float | None
    wanted_precision: float | None
    left_out_tracks: int
    tracks_above: int
    right_above: int
    precision_low: float | None

    def abstains(self, confidence: float) -> bool:
        return self.abstain_below is None or confidence < self.abstain_below


@dataclass(frozen=True)
class SongModel:
    """What is fitted to labelled tracks, and how reliable it is.

    `classifier` knows the labels of train and of held-out tracks, `held_out_classifier` those of train tracks alone: it
    is for held-out tracks, so that these go on to show what labels are worth. `threshold` and `reliability` come from
    train tracks that were left out of the fit.
    """

    classifier: SongClassifier
    held_out_classifier: SongClassifier
    threshold: Threshold
    reliability: tuple[Bin, ...]

    def classifier_for(self, split: str | None) -> SongClassifier:
        """Return the classifier that labels the tracks of a split, or new music."""
        return self.held_out_classifier if split == "test" else self.classifier


class LabelledTracks(NamedTuple):
    """Tracks to fit to: statistics [N, 2 C + K], label indices [N] and groups [N]."""

    features: Floats
    labels: NDArray[np.int64]
    groups: Sequence[str]


def fit_songs(train: LabelledTracks, held_out: LabelledTracks, classes: int, config: SongConfig) -> SongModel:
    """Fit classifier and threshold to train tracks, and the classifier once more to held-out ones, too: no network
    trained on them, so their posteriors are like those of new music.

    With cross-fitted models the posteriors come from members that did not train on the track, so the fit sees no score
    of a network that knows the label; with a single model its probabilities are too sure. New music is scored by the
    mean of all members, which is right more often than one member: there its probabilities are rather too low. What
    the fit is judged by comes from fits that left out the track's group.
    """
    held_out_classifier, left_out = fit_classifier(train, classes, config)
    confidence, correct = left_out.max(axis=1), left_out.argmax(axis=1) == train.labels[: len(left_out)]
    threshold = choose_threshold(confidence, correct, config)
    bins = tuple(reliability(confidence, correct, bins_for(len(confidence))))
    features = np.concatenate([train.features, held_out.features])
    labels = np.concatenate([train.labels, held_out.labels])
    return SongModel(_fit_softmax(features, labels, classes, config), held_out_classifier, threshold, bins)


def fit_classifier(tracks: LabelledTracks, classes: int, config: SongConfig) -> tuple[SongClassifier, Floats]:
    """Fit the song classifier; return it and its probabilities [N, C] for each track by a fit that left out its group,
    or none [0, C] where all tracks are of one group.
    """
    features, labels, _ = tracks
    splits = _splits(tracks, classes)
    left_out = np.empty((len(labels) if splits else 0, classes))
    for train, test in splits:
        classifier = _fit_softmax(features[train], labels[train], classes, config)
        left_out[test] = [classifier.probabilities(row) for row in features[test]]
    return _fit_softmax(features, labels, classes, config), left_out


def choose_threshold(confidence: Floats, correct: NDArray[np.bool_], config: SongConfig) -> Threshold:
    """Choose the confidence below which songs abstain, by the confidence [N] and correctness [N] of left-out tracks.

    The lowest one wins above which the interval of the share of right ones reaches the wanted precision. The share by
    itself would promise too much every other time.
    """
    if config.wanted_precision is None:
        return _threshold(confidence, correct, config.abstain_below, None)
    candidates, counts = np.unique(-confidence, return_counts=True)
    above = counts.cumsum()
    right = correct[np.argsort(-confidence, kind="stable")].cumsum()[above - 1]
    low, _ = wilson(right / above, above, Z_95_ONE_SIDED)
    passing = np.flatnonzero(low >= config.wanted_precision)
    lowest = float(-candidates[passing[-1]]) if len(passing) else None
    return _threshold(confidence, correct, lowest, config.wanted_precision)


def bins_for(tracks: int) -> int:
    """Return in how many bins a reliability curve of so many tracks is drawn."""
    return max(1, min(_MOST_BINS, tracks // _FEWEST_IN_BIN))


def _threshold(
    confidence: Floats, correct: NDArray[np.bool_], abstain_below: float | None, wanted: float | None
) -> Threshold:
    above = confidence >= (np.inf if abstain_below is None else abstain_below)
    tracks, right = int(above.sum()), int(correct[above].sum())
    low = float(wilson(right / tracks, tracks, Z_95_ONE_SIDED)[0]) if tracks else None
    return Threshold(abstain_below, wanted, len(confidence), tracks, right, low)


def _splits(tracks: LabelledTracks, classes: int) -> Splits:
    """Split tracks into those to fit to and those left out, by group; no split where there is one group."""
    folds = min(_LEFT_OUT_FOLDS, len(set(tracks.groups)))
    if folds < 2:
        return []
    splitter = StratifiedGroupKFold(folds) if _fewest_groups(tracks, classes) >= folds else GroupKFold(folds)
    return list(splitter.split(*tracks))


def _fewest_groups(tracks: LabelledTracks, classes: int) -> int:
    """Return in how many groups the class occurs that occurs in the fewest."""
    pairs = set(zip(tracks.labels.tolist(), tracks.groups, strict=True))
    return min(sum(label == c for label, _ in pairs) for c in range(classes))


def _fit_softmax(features: Floats, labels: NDArray[np.int64], classes: int, config: SongConfig) -> SongClassifier:
    """Fit p ~ (mean posterior)^exponent * exp(W z + b), where z are standardised statistics and W and b are kept small.

    The mean posterior, sharpened or softened by one exponent, is hard to beat with few tracks, so that is what the
    penalty pulls towards; a penalised softmax of scikit-learn would be pulled towards a guess by class shares.
    """
    mean, scale = np.zeros(features.shape[1]), np.ones(features.shape[1])
    if len(features):
        mean, std = features.mean(axis=0), features.std(axis=0)
        scale = np.where(std > 0, std, 1.0)
    z, log_mean, truth = _standardised(features, mean, scale, classes), features[:, :classes], np.eye(classes)[labels]
    strength = np.full(features.shape[1], config.regularization)
    strength[STATISTICS * classes :] *= min(1.0, max(len(features), 1) / _ENOUGH)
    penalty = 1 / np.concatenate([np.full(classes, config.regularization), np.tile(strength, classes)])

    def penalised_loss(parameters: Floats) -> tuple[float, Floats]:
        exponent, bias, weights = _unpack(parameters, classes)
        log_p = log_softmax(exponent * log_mean + z @ weights.T + bias, axis=1)
        error = np.exp(log_p) - truth
        loss = -(log_p * truth).sum() + (penalty * parameters[1:] ** 2).sum() / 2
        by_logit = np.concatenate([error.sum(axis=0), (error.T @ z).ravel()])
        gradient = np.concatenate([[(error * log_mean).sum()], by_logit + penalty * parameters[1:]])
        return loss, gradient

    start = np.eye(1, 1 + classes * (1 + features.shape[1]))[0]  # the mean posterior as it is
    bounds = [_EXPONENTS] + [(None, None)] * (len(start) - 1)
    fitted = minimize(penalised_loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    exponent, bias, weights = _unpack(fitted.x, classes)
    # One set of weights for all: the log of the mean comes first among the statistics.
    weights[:, :classes] += exponent * np.diag(scale[:classes])
    bias = bias + exponent * mean[:classes]
    return SongClassifier(tuple(mean.tolist()), tuple(scale.tolist()), _rows(weights), tuple(bias.tolist()))


def _standardised(features: Floats, mean: Floats, scale: Floats, classes: int) -> Floats:
    """Scale features [..., 2 C + K], the sound to a bounded range: music unlike all train tracks, of another sample
    rate say, would get any label with certainty."""
    z = np.asarray((features - mean) / scale)
    z[..., STATISTICS * classes :] = np.clip(z[..., STATISTICS * classes :], -_FARTHEST, _FARTHEST)
    return z


def _unpack(parameters: Floats, classes: int) -> tuple[float, Floats, Floats]:
    """Return exponent, bias [C] and weights [C, F] of a vector of parameters."""
    return parameters[0], parameters[1 : 1 + classes], parameters[1 + classes :].reshape(classes, -1).copy()


@dataclass(frozen=True)
class SongMaker:
    """All that turns the segment posteriors and the sound of a track into its row of `songs`."""

    model: SongModel
    settings: SongConfig
    classes: tuple[str, ...]
    segment_s: float
    round: int
    model_id: str

    def song(self, track_id: str, posterior: Floats, sound: Floats, start_s: Floats, split: str | None = None) -> Song:
        """Make the row of a track from its finite posteriors [N, C], their segments' sound [N, K] and starts [N].

        Its split says which classifier may label it; new music has none.
        """
        probabilities = self.model.classifier_for(split).probabilities(statistics(posterior, sound))
        peak = int(probabilities.argmax())
        entries = timeline(posterior, start_s, self.segment_s, self.classes, self.settings.smooth_segments)
        return Song(
            track_id=track_id,
            label=self.classes[peak],
            confidence=float(probabilities[peak]),
            probabilities=probabilities.tolist(),
            abstained=self.model.threshold.abstains(float(probabilities[peak])),
            segments=len(posterior),
            timeline=entries,
            round=self.round,
            model_id=self.model_id,
            timeline_label=longest_label(entries),
        )


def summarize_songs(songs: pa.Table, tracks: Sequence[Catalog], classes: Sequence[str]) -> SongsSummary:
    """Sum up the songs of a part, and how their labels compare with those of labelled tracks."""
    guesses = dict(zip(songs["track_id"].to_pylist(), songs["label"].to_pylist(), strict=True))
    return SongsSummary(
        classes=tuple(classes),
        tracks=len(songs),
        abstained=pc.sum(songs["abstained"]).as_py() or 0,
        confusions=confusions_of(tracks, guesses),
    )


def timeline(
    posterior: Floats, start_s: Floats, segment_s: float, classes: Sequence[str], smooth_segments: int
) -> list[dict[str, Any]]:
    """Return the emotions of a track in time order, from its segment posteriors [N, C] and starts [N].

    A segment's posterior is replaced by the mean over the `smooth_segments` segments around it, fewer at the ends of
    the track; a gap in time counts as none. Neighbours whose mean peaks at the same class become one entry, which lasts
    until the next segment starts, or for a segment; its confidence is the average of those means, not calibrated.
    """
    smooth = _moving_average(posterior, smooth_segments)
    entries = []
    for c, run in groupby(range(len(smooth)), key=lambda i: int(smooth[i].argmax())):
        rows = list(run)
        follower = rows[-1] + 1
        end_s = start_s[rows[-1]] + segment_s
        if follower < len(start_s):
            end_s = min(end_s, start_s[follower])
        entries.append(
            {
                "start_s": float(start_s[rows[0]]),
                "end_s": float(end_s),
                "label": classes[c],
                "confidence": float(smooth[rows, c].mean()),
            }
        )
    return entries


def longest_label(entries: Sequence[dict[str, Any]]) -> str:
    """Return the emotion that takes the most time in a timeline, the first to appear of several."""
    seconds: dict[str, float] = {}
    for entry in entries:
        seconds[entry["label"]] = seconds.get(entry["label"], 0.0) + entry["end_s"] - entry["start_s"]
    return max(seconds, key=lambda label: seconds[label])


def _moving_average(posterior: Floats, width: int) -> Floats:
    reach = width // 2
    return np.stack([posterior[max(0, i - reach) : i + reach + 1].mean(axis=0) for i in range(len(posterior))])


def _rows(matrix: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in matrix)
