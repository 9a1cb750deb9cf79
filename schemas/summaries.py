"""Summaries: what the rows of a table say in all, kept in its manifest and, for one part, in each
receipt.

They add up over parts, in the order of parts, for floats that are added differently differ. A
manifest may say more, as which mixture was fitted; each reader takes the record that it wants out
of the same JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from schemas.tables import Catalog

ByName = dict[str, int]
Pairs = dict[str, dict[str, int]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Sums over rows. One without any is the neutral element: adding it changes nothing."""

    cpu_s: float | None = None
    """CPU seconds of all processes of the stage; its tables share them. None where they were not
    measured."""
    read_bytes: int | None = field(default=None, kw_only=True)
    """Bytes of tables and audio that were read for parts. None where they were not counted."""
    read_s: float | None = field(default=None, kw_only=True)
    """Seconds that threads waited for these, all added up."""

    def __add__(self, other: Self) -> Self:
        return type(self)(
            **{name: _sum(mine, getattr(other, name)) for name, mine in _values(self).items()}
        )

    def less(self, other: Self) -> Self:
        """Return the summary as if the rows of another had never been counted."""
        return type(self)(
            **{name: _rest(mine, getattr(other, name)) for name, mine in _values(self).items()}
        )


@dataclass(frozen=True)
class CatalogSummary(Summary):
    """Of a catalog: how it was dealt."""

    parts: int = 0
    tracks: int = 0
    classes: tuple[str, ...] = ()
    folds: int = 0
    labelled: ByName = field(default_factory=dict)
    """Tracks by their label."""
    corrected_tracks: int = 0
    """Tracks whose label a listener corrected or confirmed."""
    corrected_passages: int = 0
    """Passages of tracks of which a listener said what they are."""


@dataclass(frozen=True)
class LedgerSummary(Summary):
    """Of a ledger: what became of tracks. The manifests of `segments` and `features`, made by the
    same job, say the same."""

    tracks: int = 0
    segments: int = 0
    decoded_s: float = 0.0
    statuses: ByName = field(default_factory=dict)
    """Tracks by status."""
    reasons: ByName = field(default_factory=dict)
    """Tracks by reason, of those that have one."""
    trainable: dict[str, dict[int, int]] = field(default_factory=dict)
    """Train tracks that have segments, by label and fold."""

    @property
    def labelled_train_tracks(self) -> int:
        """Number of train tracks that have a label and segments."""
        return sum(count for by_fold in self.trainable.values() for count in by_fold.values())

    @property
    def segments_a_track(self) -> float:
        """Mean number of segments of the tracks that have any."""
        failed = self.statuses.get("failed", 0)
        return self.segments / max(1, self.tracks - failed)

    @property
    def labelled_segments(self) -> float:
        """Number of segments of labelled train tracks, if these are as long as all tracks."""
        return self.labelled_train_tracks * self.segments_a_track


@dataclass(frozen=True)
class EmbeddingsSummary(Summary):
    """Of embeddings: for which segments there is none."""

    tracks: int = 0
    segments: int = 0
    missing: int = 0
    """Segments without an embedding."""
    reasons: ByName = field(default_factory=dict)
    """Tracks by reason, of those that lack an embedding for a segment."""


@dataclass(frozen=True)
class LabelsSummary(Summary):
    """Of a round's labels: segments of train tracks by partition, locked and unlabelled ones of all
    tracks."""

    classes: tuple[str, ...] = ()
    segments: int = 0
    confident: int = 0
    noisy: int = 0
    locked: int = 0
    unlabelled: int = 0
    relabelled: int = 0
    corrected: int = 0
    """Of the locked ones those that a listener corrected or confirmed."""
    by_class: Pairs = field(default_factory=dict)
    """Segments by partition (`confident`, `noisy`) and inherited label."""
    moved: Pairs = field(default_factory=dict)
    """Segments by inherited label and by label, also where these are the same."""

    def flow(self) -> Floats:
        """Return how many segments moved from an inherited label to a label [C, C]."""
        return matrix(self.moved, self.classes)

    def confident_share(self, name: str) -> float | None:
        """Return the share of a class's segments that are confident; None if it has none."""
        confident, noisy = (
            self.by_class.get(partition, {}).get(name, 0) for partition in ("confident", "noisy")
        )
        return confident / (confident + noisy) if confident + noisy else None


@dataclass(frozen=True)
class ShardsSummary(Summary):
    """Of shards: labelled segments that are copied for training."""

    segments: int = 0


@dataclass(frozen=True)
class ExamplesSummary(Summary):
    """Of what a round teaches of the segments in shards."""

    segments: int = 0
    """Segments that carry weight."""
    bags: dict[int, dict[int, int]] = field(default_factory=dict)
    """Bags by layer and fold."""
    mass: dict[str, float] = field(default_factory=dict)
    """Weighted sum of the soft labels by class."""


@dataclass(frozen=True)
class ModelsSummary(Summary):
    """Of a model."""

    model_id: str = ""


@dataclass(frozen=True)
class Guesses(Summary):
    """Labels that were guessed for tracks that have one."""

    classes: tuple[str, ...] = ()
    confusions: dict[str, Pairs] = field(default_factory=dict)
    """Tracks by split, label and guess."""

    def confusion(self, split: str) -> Floats:
        """Return the tracks of a split by label (rows) and guess [C, C]."""
        return matrix(self.confusions.get(split, {}), self.classes)


@dataclass(frozen=True)
class ScoresSummary(Guesses):
    """Of a round's scores: the guess is the peak of a track's mean posterior."""

    segments: int = 0
    non_finite: int = 0
    """Segments without a posterior."""
    losses: dict[str, float] = field(default_factory=dict)
    """Sums by split, over tracks, of -log of the mean posterior at the label, in nats."""
    reasons: ByName = field(default_factory=dict)
    """Tracks by reason, of those that lack a posterior for a segment."""


@dataclass(frozen=True)
class RoundsSummary(Guesses):
    """Of a verdict. Where two models label from then on, the guesses are those of both together:
    the peak of a track's mean posterior. Otherwise the scores say it."""

    accepted: bool = False


@dataclass(frozen=True)
class SongsSummary(Guesses):
    """Of songs: the guess is a song's label."""

    tracks: int = 0
    abstained: int = 0


SUMMARIES: dict[str, type[Summary]] = {
    "catalog": CatalogSummary,
    "ledger": LedgerSummary,
    "segments": LedgerSummary,
    "features": LedgerSummary,
    "embeddings": EmbeddingsSummary,
    "labels": LabelsSummary,
    "shards": ShardsSummary,
    "examples": ExamplesSummary,
    "models": ModelsSummary,
    "scores": ScoresSummary,
    "rounds": RoundsSummary,
    "songs": SongsSummary,
}
"""By table."""


def confusions_of(tracks: Sequence[Catalog], guesses: Mapping[str, str]) -> dict[str, Pairs]:
    """Count labelled tracks by split, label and guess, given the guesses by track id."""
    found: dict[str, Pairs] = {}
    for track in tracks:
        if track.label is not None and track.split is not None and track.track_id in guesses:
            count(found.setdefault(track.split, {}), track.label, guesses[track.track_id])
    return found


def count(pairs: Pairs, one: str, other: str) -> None:
    """Count a pair in place."""
    of_one = pairs.setdefault(one, {})
    of_one[other] = of_one.get(other, 0) + 1


def matrix(counts: Mapping[str, Mapping[str, int]], classes: Sequence[str]) -> Floats:
    """Return counts by two classes as [C, C], the first in rows."""
    rows = [[counts.get(row, {}).get(column, 0) for column in classes] for row in classes]
    return np.array(rows, dtype=np.float64).reshape(len(classes), len(classes))


def _values(summary: Summary) -> dict[str, Any]:
    return {field.name: getattr(summary, field.name) for field in dataclasses.fields(summary)}


def _sum(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, dict):
        both = {name: _sum(one[name], other[name]) for name in one.keys() & other.keys()}
        return dict(sorted({**one, **other, **both}.items()))
    if isinstance(one, tuple):
        return one or other  # classes, which are the same in all parts
    return one + other


def _rest(one: Any, other: Any) -> Any:
    if not other or isinstance(one, tuple):
        return one
    if isinstance(one, dict):
        rest = {name: _rest(count, other.get(name)) for name, count in one.items()}
        return {
            name: count for name, count in rest.items() if count
        }  # what there is none of is not mentioned
    # Rounded, as sums of losses leave a residue; not below 0, whatever an earlier version counted.
    return max(0, round(one - other, 9))


# Earlier versions


def of_today(values: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return the JSON of a summary as it is written today.

    Earlier versions gave each count a name of its own, as `confusion/test/Q1/Q2`. Where classes
    have a slash in their names, these tell which is which.
    """
    found: dict[str, Any] = {"classes": list(classes)}
    for name, value in values.items():
        *path, last = _path(name, frozenset(classes))
        inner = found
        for step in path:
            inner = inner.setdefault(step, {})
        inner[last] = value
    if "classifier" in values:  # there was one, fitted to train tracks
        found.setdefault("held_out_classifier", values["classifier"])
        for name in ("classifier", "held_out_classifier"):
            if (
                isinstance(found[name], Mapping) and "softmax" not in found[name]
            ):  # which was all of it
                found[name] = {"softmax": found[name]}
    if "mixture" in values:
        found.pop("components", None)  # the mixture says itself how many it has
        found |= _mixtures(found.pop("mixture"))
    return found


def _path(name: str, classes: frozenset[str]) -> tuple[str, ...]:
    """Return where a count is today."""
    head, _, rest = name.partition("/")
    if not rest:
        return (name.replace("-", "_"),)
    match head:
        case "status" | "reason" | "loss":
            return {"status": "statuses", "reason": "reasons", "loss": "losses"}[head], rest
        case "trainable":
            label, _, fold = rest.rpartition("/")
            return head, label, fold
        case "confident" | "noisy":
            return "by_class", head, rest
        case "flow":
            return "moved", *_pair(rest, classes)
        case "confusion":
            split, _, pair = rest.partition("/")
            return "confusions", split, *_pair(pair, classes)
    return head, rest


def _pair(text: str, classes: frozenset[str]) -> tuple[str, str]:
    """Cut `a/b` in two classes; the first cut that makes any, if there are several slashes."""
    cuts = [(text[:at], text[at + 1 :]) for at, sign in enumerate(text) if sign == "/"]
    return next((cut for cut in cuts if classes.issuperset(cut)), cuts[0])


def _mixtures(fitted: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mixtures of a split, which were a list in which `*` stood for the one of all
    classes."""
    by_class = {
        m["class"]: {**m, "noisy": None if m["noisy"]["mean"] is None else m["noisy"]}
        for m in fitted
    }
    for mixture in by_class.values():
        del mixture["class"]
    return {"common": by_class.pop("*"), "mixtures": by_class}
