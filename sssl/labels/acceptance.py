"""Acceptance of a round: track by track, its model is compared on held-out tracks with the one it started from.

What `guarded` promises is that an accepted round never has a lower held-out accuracy than the one before. That is asked
of the accuracies themselves, not of an interval: with a few dozen tracks an interval lets a fall of several points pass
as noise, and such falls would add up over the rounds. The intervals decide what is left. A round whose loss is shown to
be higher is rejected, because posteriors can get much worse before many tracks change sides. One that surely gains less
than is worth a round has brought nothing, which ends the rounds. A round that shows neither is accepted, and is not
called better unless its interval says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.stats import norm, t

from schemas import Catalog, Round
from schemas.summaries import CatalogSummary, LabelsSummary, ScoresSummary
from sssl.catalog.read import read_held_out
from sssl.config import require
from sssl.labels.relabel import SplitSummary
from sssl.metrics import Floats, quality
from sssl.model.scores import by_track
from sssl.store.folder import Store
from sssl.store.manifest import Manifest

_RESAMPLES = 2000
_SEED = 0
_FEWEST_GROUPS = 6  # five all change in the same direction by chance in one of 16 cases: no interval at 95 %
_READERS = 16  # an object store takes its time to answer, whatever the size of a part
_LOWEST = 1e-6  # as posteriors are clipped in `scores`


@dataclass(frozen=True)
class JudgeConfig:
    """When a round is accepted."""

    max_drop: float | None = 0.0
    """Reject a round whose held-out accuracy falls by more than this share; none: accept every round."""
    min_gain: float | None = 0.005
    """Reject a round whose held-out accuracy surely rises by less than this share, unless its loss surely falls; none:
    go on with rounds that bring nothing."""
    interval_level: float = 0.95
    """Level of the intervals of both changes; `surely` means that the whole interval says so."""

    def __post_init__(self) -> None:
        require(0 < self.interval_level < 1, "interval_level", self.interval_level, "a share between 0 and 1")


class Outcome(NamedTuple):
    """What a model made of a track: whether its mean posterior peaks at the label, and -log of it there, in nats."""

    correct: bool
    loss: float


@dataclass(frozen=True)
class Change:
    """A mean over held-out tracks less the parent round's, and its interval, for which there may be too few groups."""

    value: float
    low: float | None
    high: float | None

    def surely_above(self, value: float) -> bool:
        return self.low is not None and self.low > value

    def surely_below(self, value: float) -> bool:
        return self.high is not None and self.high < value


@dataclass(frozen=True)
class Comparison:
    """How the outcomes of a round differ from its parent's on the same tracks."""

    groups: int
    accuracy: Change
    loss: Change

    def __str__(self) -> str:
        accuracy = _said(self.accuracy, "{:+.1f}", "points", 100)
        without = "" if self.groups >= _FEWEST_GROUPS else f"; {self.groups} groups are too few for intervals"
        return f"held-out accuracy {accuracy}, loss {_said(self.loss, '{:+.3f}', 'nat')}{without}"


def compare_scores(
    store: Store, catalog: Manifest, scores: Manifest, parent: Manifest, config: JudgeConfig
) -> Comparison | None:
    """Compare a round's scores with its parent's; only parts with held-out tracks are read."""
    tracks, classes = read_held_out(store, catalog), catalog.about(CatalogSummary).classes
    found, before = (_outcomes_of_tracks(store, table, tracks, classes) for table in (scores, parent))
    return compare(found, before, {track.track_id: track.group_id for track in tracks}, config)


def outcomes(scores: pa.Table, tracks: Iterable[Catalog], classes: Sequence[str]) -> dict[str, Outcome]:
    """Return the outcomes of those of the tracks that are scored; without a finite posterior it is as bad as can be."""
    labels = {track.track_id: classes.index(track.label) for track in tracks if track.label is not None}
    own = scores.filter(pc.is_in(scores["track_id"], pa.array(labels, pa.string())))
    found = dict.fromkeys(own["track_id"].to_pylist(), Outcome(False, -float(np.log(_LOWEST))))
    for track_id, posterior in by_track(own).items():
        mean, label = posterior.mean(axis=0), labels[track_id]
        found[track_id] = Outcome(bool(mean.argmax() == label), -float(np.log(max(mean[label], _LOWEST))))
    return found


def compare(
    found: Mapping[str, Outcome], before: Mapping[str, Outcome], groups: Mapping[str, str], config: JudgeConfig
) -> Comparison | None:
    """Compare outcomes with those of the parent round on the tracks that both have; None if there is none.

    Whole groups are resampled: tracks of an artist are recognised or missed together.
    """
    both = sorted(found.keys() & before.keys())
    if not both:
        return None
    changes = np.array([found[track_id] for track_id in both], float) - [before[track_id] for track_id in both]
    _, group = np.unique([groups[track_id] for track_id in both], return_inverse=True)
    interval = interval_of_means(changes, group, config.interval_level)
    accuracy, loss = (Change(*row) for row in zip(changes.mean(axis=0).tolist(), *interval, strict=True))
    return Comparison(int(group.max()) + 1, accuracy, loss)


def interval_of_means(
    values: Floats, group: NDArray[np.int64], level: float
) -> tuple[list[float], list[float]] | tuple[list[None], list[None]]:
    """Return the lower and upper ends of the intervals of the means [K] of values [N, K], by bootstrap over groups [N];
    None with fewer than six groups.

    Percentiles of few groups lie too close together; they are taken further out as in Hesterberg, "What Teachers Should
    Know About the Bootstrap", 2015 (expanded percentile interval).
    """
    groups, columns = int(group.max()) + 1, values.shape[1]
    if groups < _FEWEST_GROUPS:
        return [None] * columns, [None] * columns
    sums, sizes = np.zeros((groups, columns)), np.bincount(group)
    np.add.at(sums, group, values)
    generator = np.random.default_rng(_SEED)
    # One resample at a time: all of them at once would not fit for many groups.
    drawn = (generator.multinomial(groups, np.full(groups, 1 / groups)) for _ in range(_RESAMPLES))
    means = np.array([(times @ sums) / (times @ sizes) for times in drawn])
    tail = norm.cdf(np.sqrt(groups / (groups - 1)) * t.ppf((1 - level) / 2, groups - 1))
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low.tolist(), high.tolist()


def verdict(found: Comparison | None, config: JudgeConfig) -> tuple[bool, str]:
    """Accept or reject a round after the warm-up, by how it compares with its parent on held-out tracks."""
    if config.max_drop is None:
        return True, "accepted without a test (no --max-drop)"
    if found is None:
        return True, "accepted without a test: no held-out track"
    if found.accuracy.value < -config.max_drop:
        return False, f"accuracy fell: {found}"
    if found.loss.surely_above(0):
        return False, f"loss rose: {found}"
    if found.accuracy.surely_above(0) or found.loss.surely_below(0):
        return True, f"better: {found}"
    if config.min_gain is not None and found.accuracy.surely_below(config.min_gain):
        return False, f"brought nothing: {found}"
    return True, f"not shown to be better or worse: {found}"


def round_row(
    round: int,
    parent: Round | None,
    model_id: str,
    scores: ScoresSummary,
    labels: LabelsSummary,
    split: SplitSummary,
    comparison: Comparison | None,
    config: JudgeConfig,
) -> Round:
    """Put together the row of a trained round from the summaries of its tables and the comparison with its parent."""
    held_out, train = (quality(scores.confusion(split)) for split in ("test", "train"))
    accepted, reason = (True, "warm-up") if parent is None else verdict(comparison, config)
    return Round(
        round=round,
        accepted=accepted,
        reason=reason,
        parent_round=None if parent is None else parent.round,
        model_id=model_id,
        **_split_columns(labels, split),
        heldout_tracks=held_out.tracks,
        heldout_accuracy=held_out.accuracy,
        heldout_macro_f1=held_out.macro_f1,
        heldout_loss=scores.losses.get("test", 0.0) / held_out.tracks if held_out.tracks else None,
        **_change_columns(comparison),
        train_accuracy=train.accuracy,
        train_macro_f1=train.macro_f1,
    )


def unsplit_row(round: int, parent: Round, labels: LabelsSummary, split: SplitSummary) -> Round:
    """Make the row of a round whose losses had nothing to split: nothing was trained, the parent's model stands."""
    reason = "nothing to split: no segment of a train track is noisy"
    columns = _split_columns(labels, split) | _change_columns(None)
    return replace(parent, round=round, accepted=False, reason=reason, parent_round=parent.round, **columns)


def _outcomes_of_tracks(
    store: Store, scores: Manifest, tracks: Iterable[Catalog], classes: Sequence[str]
) -> dict[str, Outcome]:
    by_part: dict[int, list[Catalog]] = defaultdict(list)
    for track in tracks:
        by_part[track.part].append(track)
    read = partial(_outcomes_of_part, store, scores, classes)
    with ThreadPoolExecutor(_READERS) as pool:
        return {track_id: outcome for part in pool.map(read, by_part.values()) for track_id, outcome in part.items()}


def _outcomes_of_part(
    store: Store, scores: Manifest, classes: Sequence[str], tracks: Sequence[Catalog]
) -> dict[str, Outcome]:
    table = store.read_part(scores.files[tracks[0].part], ["track_id", "probabilities"])
    return outcomes(table, tracks, classes)


def _said(change: Change, number: str, unit: str, factor: float = 1.0) -> str:
    value = f"{number.format(factor * change.value)} {unit}"
    if change.low is None or change.high is None:
        return value
    return f"{value} ({number.format(factor * change.low)} to {number.format(factor * change.high)})"


def _change_columns(comparison: Comparison | None) -> dict[str, Any]:
    changes = {name: getattr(comparison, name, None) for name in ("accuracy", "loss")}
    columns = {"": "value", "_low": "low", "_high": "high"}
    return {"heldout_groups": None if comparison is None else comparison.groups} | {
        f"heldout_{name}_change{suffix}": getattr(change, field, None)
        for name, change in changes.items()
        for suffix, field in columns.items()
    }


def _split_columns(labels: LabelsSummary, split: SplitSummary) -> dict[str, Any]:
    named = [] if split.common is None else [("*", split.common)]
    named += [(name, split.mixtures[name]) for name in labels.classes if name in split.mixtures]
    mixtures = [mixture for _, mixture in named]
    return {
        "components": split.components,
        "mixture_class": [name for name, _ in named],
        "confident_mean": [m.confident.mean for m in mixtures],
        "confident_std": [m.confident.std for m in mixtures],
        "noisy_mean": [m.noisy and m.noisy.mean for m in mixtures],
        "noisy_std": [m.noisy and m.noisy.std for m in mixtures],
        "noisy_share": [m.noisy.weight if m.noisy else 0.0 for m in mixtures],
        **{name: getattr(labels, name) for name in ("confident", "noisy", "locked", "unlabelled", "relabelled")},
    }
