"""Segment posteriors to a track's emotion: statistics, a calibrated linear classifier over them, and a timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from schemas import Song

Floats = NDArray[np.float64]
_LEFT_OUT_FOLDS = 5


@dataclass(frozen=True)
class SongConfig:
    """How segment posteriors become a song's emotion."""

    abstain_below: float = 0.5
    """Abstain where the calibrated probability of the label is below this."""
    smooth_segments: int = 3
    """Timeline: centred moving average of the posterior over so many segments; 1 turns it off."""
    regularization: float = 0.1
    """Inverse L2 strength of the song classifier (scikit-learn's C)."""


def statistics(posterior: Floats) -> Floats:
    """Summarise a track's segment posteriors [N, C] as features [7 C]: log of the mean, mean, maximum, minimum,
    standard deviation, and the shares of segments whose posterior is above one half and is the largest."""
    largest = np.eye(posterior.shape[1])[posterior.argmax(axis=1)]
    return np.concatenate(
        [
            np.log(np.maximum(posterior.mean(axis=0), 1e-6)),
            posterior.mean(axis=0),
            posterior.max(axis=0),
            posterior.min(axis=0),
            posterior.std(axis=0),
            (posterior > 0.5).mean(axis=0),
            largest.mean(axis=0),
        ]
    )


@dataclass(frozen=True)
class SongClassifier:
    """A fitted softmax over standardised statistics, as plain numbers: it travels as a side input and as JSON."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]
    intercept: tuple[float, ...]

    def probabilities(self, features: Floats) -> Floats:
        """Return the class probabilities [C] of one track's statistics."""
        x = (features - np.array(self.mean)) / np.array(self.scale)
        logits = np.array(self.coefficients) @ x + np.array(self.intercept)
        powers = np.exp(logits - logits.max())
        return np.asarray(powers / powers.sum())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fit_classifier(features: Floats, labels: NDArray[np.int64], classes: int, config: SongConfig) -> SongClassifier:
    """Fit the song classifier to train tracks' statistics [N, 7 C] and label indices [N].

    The mean posterior, sharpened or softened by one exponent, is hard to beat with few tracks. A softmax over all
    statistics takes its place only if it predicts tracks left out of its fit better by more than a standard error.

    With cross-fitted models the posteriors come from members that did not train on the track, so the fit sees scores as
    they are on new music and its probabilities are calibrated without a further split; with a single model they are
    too sure.
    """
    if not len(labels):
        return _of_mean_posterior(1.0, classes, features.shape[1] or 7 * classes)
    log_mean = features[:, :classes]
    exponent = float(minimize_scalar(lambda a: _losses(a * log_mean, labels).mean(), bounds=(0.1, 10)).x)
    plain = _of_mean_posterior(exponent, classes, features.shape[1])
    if np.bincount(labels, minlength=classes).min() < _LEFT_OUT_FOLDS:
        return plain
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=config.regularization, max_iter=2000))
    left_out = cross_val_predict(pipeline, features, labels, cv=_LEFT_OUT_FOLDS, method="predict_log_proba")
    gain = _losses(exponent * log_mean, labels) - _losses(left_out, labels)
    if gain.mean() <= gain.std() / np.sqrt(len(gain)):
        return plain
    scaler, regression = pipeline.fit(features, labels)
    weights, bias = regression.coef_, regression.intercept_
    if classes == 2:  # scikit-learn keeps one row for two classes
        weights, bias = np.vstack([np.zeros_like(weights), weights]), np.concatenate([[0.0], bias])
    return SongClassifier(tuple(scaler.mean_), tuple(scaler.scale_), _rows(weights), tuple(map(float, bias)))


def _of_mean_posterior(exponent: float, classes: int, features: int) -> SongClassifier:
    """Make the classifier p ~ (mean posterior)^exponent: the log of the mean comes first among the features."""
    weights = np.eye(classes, features) * exponent
    return SongClassifier((0.0,) * features, (1.0,) * features, _rows(weights), (0.0,) * classes)


def _losses(logits: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return the negative log probability [N] of the labels [N] under logits [N, C]."""
    return np.asarray(logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels])


@dataclass(frozen=True)
class SongMaker:
    """All that turns the segment posteriors of a track into its row of `songs`."""

    classifier: SongClassifier
    settings: SongConfig
    classes: tuple[str, ...]
    segment_s: float
    round: int
    model_id: str

    def song(self, track_id: str, posterior: Floats, start_s: Floats) -> Song:
        """Make the row of a track from its finite posteriors [N, C] and their segments' starts [N]."""
        probabilities = self.classifier.probabilities(statistics(posterior))
        peak = int(probabilities.argmax())
        return Song(
            track_id=track_id,
            label=self.classes[peak],
            confidence=float(probabilities[peak]),
            probabilities=probabilities.tolist(),
            abstained=bool(probabilities[peak] < self.settings.abstain_below),
            segments=len(posterior),
            timeline=timeline(posterior, start_s, self.segment_s, self.classes, self.settings.smooth_segments),
            round=self.round,
            model_id=self.model_id,
        )


def timeline(
    posterior: Floats, start_s: Floats, segment_s: float, classes: Sequence[str], smooth_segments: int
) -> list[dict[str, Any]]:
    """Return the emotions of a track in time order, from its segment posteriors [N, C] and starts [N].

    Each segment speaks for the time until the next one starts. The posterior is averaged over `smooth_segments`
    around a segment; neighbours whose average peaks at the same class become one entry, its confidence their mean.
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


def _moving_average(posterior: Floats, width: int) -> Floats:
    reach = width // 2
    return np.stack([posterior[max(0, i - reach) : i + reach + 1].mean(axis=0) for i in range(len(posterior))])


def _rows(matrix: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in matrix)
