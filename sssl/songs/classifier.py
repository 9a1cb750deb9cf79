"""The emotion of a track as a pool of opinions: what the posteriors of its segments say, a softmax
over these and the sound, a kernel machine over the sound and, where there is a front-end, a linear
softmax over its embedding. How much each counts is decided by tracks that it was not fitted to.
Where tracks have valence and arousal as numbers, a regression says these, and if it helps there,
what they say of the class is pooled with the rest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from schemas.records import later
from sssl.arrays import Floats, Indices
from sssl.labels.fitted import KeptOpinion
from sssl.metrics import Bin, reliability
from sssl.songs.kernel import Kernel, fit_kernel
from sssl.songs.linear import Linear, fit_linear
from sssl.songs.pool import Part, fit_weights, part_of, pooled, surely_likelier
from sssl.songs.regression import (
    HELD_OUT,
    FittedRegression,
    Places,
    Quality,
    Regression,
    fit_experts,
    fit_regression,
    qualities,
    said_of,
)
from sssl.songs.settings import SongConfig
from sssl.songs.softmax import STATISTICS, Softmax, fit_softmax, statistics
from sssl.songs.threshold import Threshold, bins_for, choose_threshold

OPINIONS = ("network", "softmax", "kernel")
"""Whose log probabilities are pooled, in this order."""
EMBEDDING = "embedding"
"""The opinion that comes after them where tracks have embeddings."""
NUMBERS = "numbers"
"""The opinion that the rest is pooled with where tracks have valence and arousal."""
_WITHOUT_NUMBERS = (1.0, 0.0)
# Of the familiarity that the strangest labelled track has to the others. On 419 clips that is 0.40;
# clips with two standard deviations added to every statistic have 0.14 to 0.46, random ones 0.02
# (LOG.md).
_FARTHER = 0.75


class LabelledTracks(NamedTuple):
    """Tracks to fit to: statistics [N, 2 C + K], label indices [N] and cross-fitting folds [N],
    each of which has all tracks of a group; their mean embeddings [N, D] where there is a
    front-end."""

    features: Floats
    labels: Indices
    folds: Indices
    embeddings: Floats | None = None
    numbers: Floats | None = None
    """Valence and arousal [N, 2], NaN where unknown; None where nobody asks for them."""
    groups: Indices | None = None
    """Of each track [N], where there are numbers."""

    def take(self, rows: Indices) -> LabelledTracks:
        taken: list[Any] = [None if values is None else values[rows] for values in self]
        return LabelledTracks(*taken)

    def with_others(self, others: LabelledTracks) -> LabelledTracks:
        """Return these tracks and others, with what is known of both."""
        columns: list[Any] = []
        for mine, theirs in zip(self, others, strict=True):
            both = None if mine is None or theirs is None else np.concatenate([mine, theirs])
            columns.append(both)
        return LabelledTracks(*columns)

    def places(self) -> Places | None:
        """Return those that have both numbers; None where nobody asks for them."""
        if self.numbers is None or self.groups is None:
            return None
        # A label alone says no number: its quadrant is large.
        known = np.flatnonzero(np.isfinite(self.numbers).all(axis=1))
        embeddings = None if self.embeddings is None else self.embeddings[known]
        features = self.features[known]
        numbers = self.numbers[known]
        folds = self.folds[known]
        groups = self.groups[known]
        return Places(features, numbers, folds, groups, embeddings)


@dataclass(frozen=True)
class SongClassifier:
    """A logarithmic opinion pool (Genest and Zidek, "Combining probability distributions", 1986):
    the product of the opinions' probabilities, each to the power of its weight. The weights also
    calibrate it."""

    softmax: Softmax
    kernel: Kernel | None = None
    weights: tuple[float, ...] = (0.0, 1.0, 0.0)
    """Of each of `OPINIONS`, then of the embedding where it counts."""
    linear: Linear | None = later(None, neutral=None)
    """What the embedding says."""
    regression: Regression | None = later(None, neutral=None)
    """What valence and arousal are said by."""
    blend: tuple[float, float] = later(_WITHOUT_NUMBERS, neutral=_WITHOUT_NUMBERS)
    """Weight of the pool, and of what valence and arousal say, in the probabilities."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.softmax.intercept)

    @property
    def knows_sound(self) -> bool:
        """Whether it was fitted to the sound of tracks, too."""
        return self.softmax.knows_sound

    def opinions(self, features: Floats, embeddings: Floats | None = None) -> Floats:
        """Return the log probabilities [O, N, C] of each opinion of tracks with features [N, 2 C +
        K] and embeddings [N, D]."""
        known = _opinions(self.softmax, self.kernel, features)
        if self.linear is None:
            return known
        if embeddings is None:
            # NaN is an opinion of nothing.
            embeddings = np.full((len(features), len(self.linear.mean)), np.nan)
        return np.concatenate([known, self.linear.log_probabilities(embeddings)[None]])

    def probabilities(self, features: Floats, embeddings: Floats | None = None) -> Floats:
        """Return the class probabilities [N, C] of tracks with features [N, 2 C + K] and embeddings
        [N, D]."""
        log_p = pooled(self.opinions(features, embeddings), np.array(self.weights))
        if self.regression is not None and self.blend[1]:
            by_numbers = self.regression.log_probabilities(features, embeddings)
            of_both = np.stack([log_p, by_numbers])
            log_p = pooled(of_both, np.array(self.blend))
        return np.exp(log_p)

    def familiarity(self, features: Floats) -> Floats | None:
        """Return how much tracks with features [N, 2 C + K] sound like the labelled track that is
        most like them [N]: from 0 to 1; None where the sound does not count."""
        sound = features[:, STATISTICS * self.classes :]
        if self.kernel is None or not sound.shape[1]:
            return None
        return np.asarray(self.kernel.similarities(sound).max(axis=1))

    def without_sound(self, posterior: Floats) -> Floats:
        """Return the class probabilities [C] of a track with such posteriors [N, C] and an average
        sound."""
        average = np.array(self.softmax.mean)[STATISTICS * self.classes :]
        deaf = replace(self, kernel=None)
        return np.asarray(deaf.probabilities(statistics(posterior, average[None])[None])[0])


@dataclass(frozen=True)
class SongModel:
    """What is fitted to labelled tracks, and how reliable it is.

    No labelled track is labelled by what knows its label: `by_fold` has a classifier for the train
    tracks of each fold, fitted to the other folds, and `held_out_classifier` knows no held-out
    track. `classifier` was fitted to all of them, and is for new music. `threshold`, `reliability`
    and `parts` come from left-out train tracks, too.
    """

    classifier: SongClassifier
    held_out_classifier: SongClassifier
    threshold: Threshold
    reliability: tuple[Bin, ...]
    parts: tuple[Part, ...] = ()
    unlike_below: float | None = None
    """Familiarity below which a track is unlike anything labelled: nobody knows what its confidence
    is worth."""
    by_fold: dict[int, SongClassifier] = field(default_factory=dict)
    """Empty where all train tracks are of one fold, or an earlier version fitted it."""
    numbers: tuple[Quality, ...] = later((), neutral=())
    """How good valence and arousal are; empty without a regression."""
    second: KeptOpinion | None = later(None, neutral=None)
    """What timelines go by beside the network: the second opinion that segments were split with."""
    taken_down: int = later(0, neutral=0)
    """How many labelled tracks that it was fitted to were taken down since, as the summary that it
    is read from says. If a run keeps it all the same, the new songs say so, too."""

    def classifier_for(self, split: str | None, fold: int | None) -> SongClassifier:
        """Return the classifier that labels the tracks of a split (and of train tracks a fold), or
        new music."""
        if split == "test":
            return self.held_out_classifier
        if split == "train" and fold is not None:
            return self.by_fold.get(fold, self.classifier)
        return self.classifier


def fit_songs(
    train: LabelledTracks,
    held_out: LabelledTracks,
    classes: int,
    config: SongConfig,
    signs: Floats | None = None,
) -> SongModel:
    """Fit classifier and threshold to train tracks, and the classifier once more to held-out ones,
    too: no network trained on them, so their posteriors are like those of new music.

    With cross-fitted models the posteriors come from members that did not train on the track, so
    the fit sees no score of a network that knows the label; with a single model its probabilities
    are too sure. New music is scored by the mean of all members, which is right more often than one
    member: there its probabilities are rather too low. What the fit is judged by comes from fits
    that left out the track's fold.

    Where tracks have valence and arousal, their `signs` by class [C, 2] say what these numbers
    mean.
    """
    fitted = fit_classifier(train, classes, config, signs)
    confidence = fitted.left_out.max(axis=1)
    correct = fitted.left_out.argmax(axis=1) == train.labels[: len(confidence)]
    threshold = choose_threshold(confidence, correct, config)
    bins = tuple(reliability(confidence, correct, bins_for(len(confidence))))
    # New music may be labelled by what knows every label that there is.
    every = train.with_others(held_out)
    classifier = _fit_opinions(every, classes, config, fitted.classifier.weights)
    regression = fitted.classifier.regression
    classifier = replace(
        classifier,
        regression=_refitted(regression, every, classes),
        blend=fitted.classifier.blend,
    )
    return SongModel(
        classifier=classifier,
        held_out_classifier=fitted.classifier,
        threshold=threshold,
        reliability=bins,
        parts=fitted.parts,
        unlike_below=fitted.unlike_below,
        by_fold=fitted.by_fold,
        numbers=(*fitted.numbers, *_of_held_out(regression, held_out)),
    )


def _refitted(
    regression: Regression | None, tracks: LabelledTracks, classes: int
) -> Regression | None:
    """Fit the experts of a regression to more tracks; how they are weighed stays."""
    places = tracks.places()
    if regression is None or places is None:
        return None
    return replace(regression, experts=fit_experts(places, classes))


def _of_held_out(regression: Regression | None, held_out: LabelledTracks) -> list[Quality]:
    places = held_out.places()
    if regression is None or places is None or not len(places.numbers):
        return []
    return qualities(HELD_OUT, places.numbers, said_of(regression, places))


class Fitted(NamedTuple):
    """A song classifier, its probabilities [N, C] for each track by a fit that left out the track's
    fold ([0, C] where all tracks are of one), what its parts are worth, the familiarity below which
    tracks are unlike these, the fits that left out a fold, and how good valence and arousal are."""

    classifier: SongClassifier
    left_out: Floats
    parts: tuple[Part, ...]
    unlike_below: float | None
    by_fold: dict[int, SongClassifier]
    numbers: tuple[Quality, ...] = ()


def fit_classifier(
    tracks: LabelledTracks, classes: int, config: SongConfig, signs: Floats | None = None
) -> Fitted:
    """Fit opinions to tracks, and the weights of the pool to what the opinions say of tracks that
    they left out."""
    # Of a single fold no track can be left out, so nothing is known of how good the fit is.
    if len(np.unique(tracks.folds)) < 2:
        return Fitted(_fit_opinions(tracks, classes, config), np.empty((0, classes)), (), None, {})
    unweighted = _fit_by_fold(tracks, classes, config)
    opinions = _left_out_opinions(unweighted, tracks, classes)
    by_fold = _weighed_by_fold(unweighted, opinions, tracks)
    left_out_pool = np.empty((len(tracks.labels), classes))
    for fold, classifier in by_fold.items():
        rows = np.flatnonzero(tracks.folds == fold)
        left_out_pool[rows] = pooled(opinions[:, rows], np.array(classifier.weights))
    # On left-out tracks: on its own an opinion that learns by heart would seem the best.
    weights = fit_weights(opinions, tracks.labels)
    parts = [
        part_of(name, log_p, tracks.labels, weight)
        for name, log_p, weight in zip(opinions_of(tracks), opinions, weights, strict=True)
    ]
    parts.append(part_of("pool", left_out_pool, tracks.labels, None))
    classifier = _fit_opinions(tracks, classes, config, tuple(weights.tolist()))
    unlike_below = _least_familiarity(by_fold, tracks)
    fitted = Fitted(classifier, np.exp(left_out_pool), tuple(parts), unlike_below, by_fold)
    places = tracks.places()
    if signs is None or places is None:
        return fitted
    found = fit_regression(places, signs)
    if found is None:
        return fitted
    return _blended(_with_numbers(fitted, found), tracks)


def _with_numbers(fitted: Fitted, found: FittedRegression) -> Fitted:
    """Give each classifier the regression that left out what it left out."""
    by_fold = {}
    for fold, classifier in fitted.by_fold.items():
        # A fold without numbers was left out by all.
        regression = found.by_fold.get(fold, found.regression)
        by_fold[fold] = replace(classifier, regression=regression)
    return fitted._replace(
        classifier=replace(fitted.classifier, regression=found.regression),
        by_fold=by_fold,
        numbers=tuple(found.qualities),
    )


def _blended(fitted: Fitted, tracks: LabelledTracks) -> Fitted:
    """Pool what valence and arousal say of the class with the rest, if that surely makes the labels
    of left-out tracks likelier: labels are not to be worse for them."""
    by_numbers = np.empty_like(fitted.left_out)
    for fold, classifier in fitted.by_fold.items():
        rows = np.flatnonzero(tracks.folds == fold)
        own = tracks.take(rows)
        assert classifier.regression is not None
        by_numbers[rows] = classifier.regression.log_probabilities(own.features, own.embeddings)
    # No probability is so small that its logarithm is infinite.
    of_pool = np.log(np.maximum(fitted.left_out, np.finfo(np.float64).tiny))
    of_both = np.stack([of_pool, by_numbers])
    by_fold = {}
    blended = np.empty_like(by_numbers)
    for fold, classifier in fitted.by_fold.items():
        is_own = tracks.folds == fold
        weights = fit_weights(of_both[:, ~is_own], tracks.labels[~is_own])
        by_fold[fold] = replace(classifier, blend=_pair(weights))
        blended[is_own] = pooled(of_both[:, is_own], weights)
    *opinions, before = fitted.parts
    # Of one bit, whether numbers count at all, the tracks that are labelled by it know themselves.
    if not surely_likelier(blended, of_both[0], tracks.labels, tracks.groups):
        numbers = part_of(NUMBERS, by_numbers, tracks.labels, 0.0)
        return fitted._replace(parts=(*opinions, numbers, before))
    blend = _pair(fit_weights(of_both, tracks.labels))
    pool_weight, numbers_weight = blend
    # What the opinions count for in the end.
    weighed = [replace(part, weight=pool_weight * (part.weight or 0.0)) for part in opinions]
    numbers = part_of(NUMBERS, by_numbers, tracks.labels, numbers_weight)
    after = part_of(before.name, blended, tracks.labels, None)
    return fitted._replace(
        classifier=replace(fitted.classifier, blend=blend),
        left_out=np.exp(blended),
        parts=(*weighed, numbers, after),
        by_fold=by_fold,
    )


def _pair(weights: Floats) -> tuple[float, float]:
    one, other = weights.tolist()
    return one, other


def _fit_by_fold(
    tracks: LabelledTracks, classes: int, config: SongConfig
) -> dict[int, SongClassifier]:
    """Fit the opinions once for each fold, to the tracks of the other folds."""
    by_fold = {}
    for fold in np.unique(tracks.folds):
        others = tracks.take(np.flatnonzero(tracks.folds != fold))
        by_fold[int(fold)] = _fit_opinions(others, classes, config)
    return by_fold


def _left_out_opinions(
    by_fold: dict[int, SongClassifier], tracks: LabelledTracks, classes: int
) -> Floats:
    """Return the opinions [O, N, C] of tracks by the fit that left out their fold."""
    count = len(opinions_of(tracks))
    opinions = np.empty((count, len(tracks.labels), classes))
    for fold, classifier in by_fold.items():
        left_out = np.flatnonzero(tracks.folds == fold)
        own = tracks.take(left_out)
        opinions[:, left_out] = classifier.opinions(own.features, own.embeddings)
    return opinions


def _weighed_by_fold(
    by_fold: dict[int, SongClassifier], opinions: Floats, tracks: LabelledTracks
) -> dict[int, SongClassifier]:
    """Weigh the opinions of each fold's fit by the tracks of the other folds.

    Opinions of these come from fits that know the labels of the fold. That reaches its tracks
    through three numbers.
    """
    weighed = {}
    for fold, classifier in by_fold.items():
        others = np.flatnonzero(tracks.folds != fold)
        weights = fit_weights(opinions[:, others], tracks.labels[others])
        weighed[fold] = replace(classifier, weights=tuple(weights.tolist()))
    return weighed


def _least_familiarity(by_fold: dict[int, SongClassifier], tracks: LabelledTracks) -> float | None:
    """Return below which familiarity a track is unlike all of these; None where the sound does not
    count."""
    of_folds = [
        classifier.familiarity(tracks.features[tracks.folds == fold])
        for fold, classifier in by_fold.items()
    ]
    least = [float(familiarity.min()) for familiarity in of_folds if familiarity is not None]
    if least:
        return _FARTHER * min(least)
    return None


def opinions_of(tracks: LabelledTracks) -> tuple[str, ...]:
    """Name the opinions that there are of tracks."""
    if tracks.embeddings is None:
        return OPINIONS
    return (*OPINIONS, EMBEDDING)


def _fit_opinions(
    tracks: LabelledTracks,
    classes: int,
    config: SongConfig,
    weights: tuple[float, ...] = (0.0, 1.0, 0.0),
) -> SongClassifier:
    """Fit opinions to tracks; an embedding counts for nothing where no weight is given for it."""
    softmax = fit_softmax(tracks.features, tracks.labels, classes, config.regularization)
    sound = tracks.features[:, STATISTICS * classes :]
    kernel = None
    if sound.size:  # not for folders from before the sound was measured
        kernel = fit_kernel(sound, tracks.labels, classes)
    if tracks.embeddings is None:
        return SongClassifier(softmax, kernel, weights)
    linear = fit_linear(tracks.embeddings, tracks.labels, tracks.folds, classes)
    # Without a weight the embedding counts for nothing.
    of_all = (*weights, 0.0)[: len(OPINIONS) + 1]
    return SongClassifier(softmax, kernel, of_all, linear)


def _opinions(softmax: Softmax, kernel: Kernel | None, features: Floats) -> Floats:
    classes = len(softmax.intercept)
    network = log_softmax(features[:, :classes], axis=1)
    sound = features[:, STATISTICS * classes :]
    # An opinion of nothing is that all classes are alike.
    if kernel and sound.shape[1]:
        by_sound = kernel.log_probabilities(sound)
    else:
        by_sound = np.zeros_like(network)
    return np.stack([network, softmax.log_probabilities(features), by_sound])
