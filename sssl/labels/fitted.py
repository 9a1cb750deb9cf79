"""What a split learned from labelled tracks, kept to relabel tracks that come later as if they had
been there."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from schemas.records import later
from sssl.arrays import Indices
from sssl.labels.consistency import TrackModel
from sssl.labels.evidence import Evidence
from sssl.labels.mixture import Mixture
from sssl.labels.settings import RelabelConfig
from sssl.labels.sound_classifier import Scale, SecondOpinion, SoundClassifier
from sssl.labels.split import Split, fit_split

Row = tuple[float, ...]
_FITTED = ("tracks", "second")
_AS_IN_EVIDENCE = tuple(field.name for field in fields(Evidence) if field.name not in _FITTED)
"""Fields of `Evidence` that are JSON as they are."""


@dataclass(frozen=True)
class KeptTrackModel:
    """A `TrackModel` as JSON has it."""

    mean: Row
    factors: tuple[Row, ...]
    between: Row


@dataclass(frozen=True)
class KeptOpinion:
    """A `SecondOpinion` as JSON has it."""

    share: float
    mean: Row
    std: Row
    weights: tuple[tuple[Row, ...], ...]
    bias: tuple[Row, ...]

    @classmethod
    def of(cls, second: SecondOpinion) -> KeptOpinion:
        """Keep an opinion."""
        classifier = second.classifier
        scale = classifier.scale
        weights = tuple(tuple(map(tuple, rows)) for rows in classifier.weights.tolist())
        bias = tuple(map(tuple, classifier.bias.tolist()))
        return cls(
            second.share, tuple(scale.mean.tolist()), tuple(scale.std.tolist()), weights, bias
        )

    @cached_property
    def opinion(self) -> SecondOpinion:
        """The classifier and its share, as arrays."""
        scale = Scale(np.array(self.mean), np.array(self.std))
        classifier = SoundClassifier(scale, np.array(self.weights), np.array(self.bias))
        return SecondOpinion(classifier, self.share)


@dataclass(frozen=True)
class KeptSplit:
    """The loss histograms [C, BINS] of labelled tracks, which a split follows from, how evidence
    was read, and the mixture over all classes that was fitted to them."""

    histograms: tuple[tuple[int, ...], ...]
    temperature: float
    mean_odds: float
    mean_inconsistency: float
    unit: float
    between: float
    neighbours: float
    agreement: float | None
    in_parts: bool | None
    tracks: KeptTrackModel | None
    common: Mixture | None = later(None, neutral=None)
    second: KeptOpinion | None = later(None, neutral=None)

    @classmethod
    def of(cls, histograms: Indices, evidence: Evidence, split: Split) -> KeptSplit:
        """Keep what a split and its evidence were fitted to, and what took longest to fit."""
        tracks = evidence.tracks
        kept = None
        if tracks is not None:
            factors = tuple(map(tuple, tracks.factors.tolist()))
            kept = KeptTrackModel(
                tuple(tracks.mean.tolist()), factors, tuple(tracks.between.tolist())
            )
        numbers = {name: getattr(evidence, name) for name in _AS_IN_EVIDENCE}
        return cls(
            histograms=tuple(map(tuple, histograms.tolist())),
            tracks=kept,
            common=split.common,
            second=None if evidence.second is None else KeptOpinion.of(evidence.second),
            **numbers,
        )

    def evidence(self) -> Evidence:
        """Return how evidence was read."""
        tracks = None
        if self.tracks is not None:
            tracks = TrackModel(
                *map(np.array, (self.tracks.mean, self.tracks.factors, self.tracks.between))
            )
        numbers = {name: getattr(self, name) for name in _AS_IN_EVIDENCE}
        second = None if self.second is None else self.second.opinion
        return Evidence(tracks=tracks, second=second, **numbers)

    def split(self, config: RelabelConfig) -> Split:
        """Fit the split again: the same histograms give the same. A mixture is fitted where none is
        kept, as by an earlier version."""
        return fit_split(np.array(self.histograms, np.int64), config, self.in_parts, self.common)
