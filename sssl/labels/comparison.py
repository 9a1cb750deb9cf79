"""How a round's model compares with the one it started from, on labelled tracks that neither of
them has learned.

What a model makes of a track is the mean posterior of its segments. Train tracks count where models
are cross-fitted: the member that scores a track left it out. The soft labels of a round carry a
little of every label to every member, but that does not show (LOG.md). Accuracies of some dozen
tracks say little, so models are compared by log loss, each at the temperature at which it is
likeliest: a model that is only surer, or less sure, than the one before is no better for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import ndtr, stdtrit

from schemas import Catalog
from schemas.summaries import CatalogSummary, Pairs, RoundsSummary, confusions_of, count
from sssl.arrays import Flags, Floats, Indices, class_indices, posteriors, track_numbers
from sssl.catalog.committed import read_labelled
from sssl.labels.calibration import fit_temperature, losses_by_temperature, sharpen
from sssl.metrics import LEAST_PROBABILITY
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, PartFile

FEWEST_GROUPS = 6
"""Five groups all change in the same direction by chance in one of 16 cases: no error or interval
is told of fewer."""
MOST_CHANGE_NATS = 2.0
"""What a single track may count: one must not turn an accepted round into one that is not taken."""
# Mean posteriors below count as this: one track that is hopeless at any temperature would soften
# all others.
_LEAST = 0.01
_RESAMPLES = 2000
_SEED = 0
_JUDGED_BY = ("track_id", "group_id", "label", "split", "part")
_READERS = 16  # an object store takes its time to answer, whatever the size of a part
_LEAST_ERROR = 1e-9  # where all groups change alike


@dataclass(frozen=True)
class JudgedTracks:
    """Labelled tracks as two models see them, in the order of their ids: label [N], group [N],
    whether held out [N] and mean posteriors [N, C]."""

    label: Indices
    group: Indices
    held_out: Flags
    before: Floats
    after: Floats

    def of(self, rows: Flags) -> JudgedTracks:
        """Return some of the tracks, their groups numbered anew."""
        _, group = np.unique(self.group[rows], return_inverse=True)
        return JudgedTracks(
            label=self.label[rows],
            group=group,
            held_out=self.held_out[rows],
            before=self.before[rows],
            after=self.after[rows],
        )

    @property
    def groups(self) -> int:
        return len(np.unique(self.group))

    @property
    def both(self) -> Floats:
        """What both models make of the tracks together [N, C]: the mean of their posteriors."""
        return (self.before + self.after) / 2

    def confusions(self, posterior: Floats, classes: Sequence[str]) -> dict[str, Pairs]:
        """Count the tracks by split, label and peak of a posterior [N, C]."""
        found: dict[str, Pairs] = {}
        peaks = posterior.argmax(axis=1)
        for label, peak, is_held_out in zip(self.label, peaks, self.held_out, strict=True):
            split = "test" if is_held_out else "train"
            pairs = found.setdefault(split, {})
            count(pairs, classes[label], classes[peak])
        return found


@dataclass(frozen=True)
class Change:
    """A mean over groups, less that of the parent round, and its standard error by jackknife over
    groups."""

    value: float
    error: float

    @property
    def z(self) -> float:
        """The change in standard errors."""
        return self.value / self.error


@dataclass(frozen=True)
class Comparison:
    """How a round differs from its parent on the tracks that judge it."""

    tracks: int
    groups: int
    loss: Change
    accuracy: Change

    def __str__(self) -> str:
        loss = f"{self.loss.value:+.3f} ± {self.loss.error:.3f} nats per track"
        accuracy = f"{100 * self.accuracy.value:+.1f} ± {100 * self.accuracy.error:.1f} points"
        return f"{loss}, accuracy {accuracy} ({self.tracks} tracks of {self.groups} groups)"


@dataclass(frozen=True)
class Interval:
    """A mean over held-out tracks less the parent round's, and its interval, for which there may be
    too few groups."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class HeldOutChange:
    """How a round differs from its parent on held-out tracks alone; measured, but no reason for a
    verdict."""

    groups: int
    accuracy: Interval
    loss: Interval


def compare(tracks: JudgedTracks) -> Comparison | None:
    """Compare two models on tracks; None where there are too few groups to tell how sure the
    difference is.

    Whole groups count once: tracks of an artist are recognised or missed together.
    """
    if tracks.groups < FEWEST_GROUPS:
        return None
    before = calibrated_losses(tracks.before, tracks.label)
    after = calibrated_losses(tracks.after, tracks.label)
    loss = np.clip(after - before, -MOST_CHANGE_NATS, MOST_CHANGE_NATS)
    right = _change_of_correct(tracks)
    return Comparison(
        tracks=len(tracks.label),
        groups=tracks.groups,
        loss=change_by_group(loss, tracks.group),
        accuracy=change_by_group(right, tracks.group),
    )


def _change_of_correct(tracks: JudgedTracks) -> Floats:
    """Return 1 for tracks [N] that only the second model gets right, -1 for the first, else 0."""
    after = _correct(tracks.after, tracks.label)
    before = _correct(tracks.before, tracks.label)
    return after.astype(float) - before


def calibrated_losses(posterior: Floats, label: Indices) -> Floats:
    """Return -log p [N] of labels under posteriors [N, C] at the temperature that is likeliest on
    these tracks.

    One temperature per model, fitted alike for both, favours neither. Fitted to all other groups
    instead it would differ from group to group, which costs power and wins nothing (LOG.md).
    """
    floored = np.maximum(posterior, _LEAST)
    losses = losses_by_temperature(floored, label)
    temperature = fit_temperature(losses)
    return _losses(sharpen(floored, temperature), label)


def change_by_group(values: Floats, group: Indices) -> Change:
    """Return the mean of the group means of values [N] with its jackknife standard error."""
    sums = np.bincount(group, values)
    means = sums / np.bincount(group)
    # Leaving one group out moves the mean by its distance / (G - 1), hence the ordinary error of a
    # mean.
    error = float(means.std(ddof=1) / np.sqrt(len(means)))
    return Change(float(means.mean()), max(error, _LEAST_ERROR))


def compare_held_out(tracks: JudgedTracks, level: float) -> HeldOutChange | None:
    """Compare two models on held-out tracks, as their labels come out without any fit; None if
    there is none."""
    own = tracks.of(tracks.held_out)
    if not len(own.label):
        return None
    right = _change_of_correct(own)
    loss = _losses(own.after, own.label) - _losses(own.before, own.label)
    changes = np.stack([right, loss], axis=1)
    low, high = interval_of_means(changes, own.group, level)
    mean = changes.mean(axis=0).tolist()
    accuracy = Interval(mean[0], low[0], high[0])
    return HeldOutChange(own.groups, accuracy, Interval(mean[1], low[1], high[1]))


def interval_of_means(
    values: Floats, group: Indices, level: float
) -> tuple[list[float], list[float]] | tuple[list[None], list[None]]:
    """Return the lower and upper ends of the intervals of the means [K] of values [N, K], by
    bootstrap over groups [N]; None with fewer than six groups.

    Percentiles of few groups lie too close together; they are taken further out as in Hesterberg,
    "What Teachers Should Know About the Bootstrap", 2015 (expanded percentile interval).
    """
    groups = int(group.max()) + 1
    columns = values.shape[1]
    if groups < FEWEST_GROUPS:
        return [None] * columns, [None] * columns
    sums = np.zeros((groups, columns))
    sizes = np.bincount(group)
    np.add.at(sums, group, values)
    generator = np.random.default_rng(_SEED)
    alike = np.full(groups, 1 / groups)
    means = np.empty((_RESAMPLES, columns))
    # One resample at a time: all of them at once would not fit for many groups.
    for number in range(_RESAMPLES):
        times = generator.multinomial(groups, alike)
        # Large groups count for more in each resample, as they do in the mean of all tracks.
        means[number] = (times @ sums) / (times @ sizes)
    # Hesterberg's tail: Student's t instead of the normal, and the root of G / (G - 1), by which
    # a bootstrap of G groups is too narrow.
    further = np.sqrt(groups / (groups - 1))
    half = (1 - level) / 2
    student = stdtrit(groups - 1, half)
    tail = ndtr(further * student)
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low.tolist(), high.tolist()


def read_judged(store: Store, catalog: Manifest, before: Manifest, after: Manifest) -> JudgedTracks:
    """Read what two tables of scores say of labelled tracks: the parts without any are not read,
    and one row per track is all that is kept.

    A track that one of the models gives no posterior counts as one that it knows nothing of.
    """
    labelled = read_labelled(store, catalog, _JUDGED_BY)
    classes = catalog.about(CatalogSummary).classes
    parts = sorted(set(labelled["part"].to_pylist()))
    read = partial(_means_of_part, store, classes=len(classes))
    with ThreadPoolExecutor(_READERS) as pool:
        by_before = _by_id(pool.map(read, [before.files[part] for part in parts]))
        by_after = _by_id(pool.map(read, [after.files[part] for part in parts]))
    in_both = sorted(by_before.keys() & by_after.keys())
    is_scored = pc.is_in(labelled["track_id"], pa.array(in_both, pa.string()))
    rows = labelled.filter(is_scored).sort_by("track_id")
    ids = rows["track_id"].to_pylist()
    # Of no track at all an array would have one axis only.
    shape = (len(ids), len(classes))
    means_before = np.array([by_before[track_id] for track_id in ids]).reshape(shape)
    means_after = np.array([by_after[track_id] for track_id in ids]).reshape(shape)
    _, group = np.unique(rows["group_id"].to_numpy(), return_inverse=True)
    return JudgedTracks(
        label=class_indices(rows["label"], classes),
        group=group,
        held_out=pc.equal(rows["split"], "test").to_numpy(),
        before=means_before,
        after=means_after,
    )


def summarize_both(
    store: Store,
    tables: tuple[Manifest, Manifest],
    tracks: Sequence[Catalog],
    classes: Sequence[str],
) -> RoundsSummary:
    """Count what two tables of scores together make of some tracks, as the verdict that joined them
    counts all."""
    parts = sorted({track.part for track in tracks})
    of_first, of_second = tables
    read = partial(_means_of_part, store, classes=len(classes))
    before = _by_id(read(of_first.files[part]) for part in parts)
    after = _by_id(read(of_second.files[part]) for part in parts)
    guesses = {}
    for track_id in before.keys() & after.keys():
        both = before[track_id] + after[track_id]  # peaks where their mean does
        guesses[track_id] = classes[int(both.argmax())]
    return RoundsSummary(classes=tuple(classes), confusions=confusions_of(tracks, guesses))


def mean_posteriors(scores: pa.Table, classes: int) -> dict[str, Floats]:
    """Return the mean posterior [C] of each track with scored segments; all classes alike where
    none is finite."""
    posterior = posteriors(scores, classes)
    track = track_numbers(scores)
    known = np.isfinite(posterior).all(axis=1)
    tracks = int(track.max()) + 1 if len(track) else 0
    sums = np.zeros((tracks, classes))
    np.add.at(sums, track[known], posterior[known])
    segments = np.bincount(track[known], minlength=tracks)[:, None]
    means = sums / np.maximum(segments, 1)
    means = np.where(segments > 0, means, 1 / classes)
    ids = scores["track_id"].unique().to_pylist()
    return dict(zip(ids, means, strict=True))


def _means_of_part(store: Store, file: PartFile, classes: int) -> dict[str, Floats]:
    return mean_posteriors(store.read_part(file, ["track_id", "probabilities"]), classes)


def _by_id(parts: Iterable[dict[str, Floats]]) -> dict[str, Floats]:
    means: dict[str, Floats] = {}
    for part in parts:
        means.update(part)
    return means


def _correct(posterior: Floats, label: Indices) -> Flags:
    """Whether posteriors [N, C] peak at labels [N]; one that knows nothing has no peak."""
    rows = np.arange(len(label))
    of_label = posterior[rows, label]
    others = posterior.copy()
    others[rows, label] = -np.inf
    highest_other = others.max(axis=1)
    is_peak = of_label > highest_other
    return np.asarray(is_peak)


def _losses(posterior: Floats, label: Indices) -> Floats:
    rows = np.arange(len(label))
    # Bounded like the losses of `scores`, so that no single track decides.
    p = np.maximum(posterior[rows, label], LEAST_PROBABILITY)
    return np.asarray(-np.log(p))
