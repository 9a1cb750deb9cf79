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
from numpy.typing import NDArray
from scipy.stats import norm, t

from schemas import Catalog
from schemas.summaries import CatalogSummary, Pairs, RoundsSummary, confusions_of, count
from sssl.arrays import Floats, class_indices, posteriors, track_numbers
from sssl.catalog.read import read_labelled
from sssl.labels.calibration import fit_temperature, losses_by_temperature, sharpen
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, PartFile

Indices = NDArray[np.int64]

FEWEST_GROUPS = 6
"""Five groups all change in the same direction by chance in one of 16 cases: no error or interval
is told of fewer."""
MOST_CHANGE_NATS = 2.0
"""What a single track may count: one must not turn an accepted round into one that is not taken."""
_LEAST = 0.01
"""Mean posteriors below count as this: one track that is hopeless at any temperature would soften
all others."""
_RESAMPLES = 2000
_SEED = 0
_READERS = 16  # an object store takes its time to answer, whatever the size of a part
_LEAST_ERROR = 1e-9  # where all groups change alike
_LOWEST = 1e-6  # as posteriors are clipped in `scores`


@dataclass(frozen=True)
class JudgedTracks:
    """Labelled tracks as two models see them, in the order of their ids: label [N], group [N],
    whether held out [N] and mean posteriors [N, C]."""

    label: Indices
    group: Indices
    held_out: NDArray[np.bool_]
    before: Floats
    after: Floats

    def of(self, rows: NDArray[np.bool_]) -> JudgedTracks:
        """Return some of the tracks, their groups numbered anew."""
        group = np.unique(self.group[rows], return_inverse=True)[1]
        return JudgedTracks(
            self.label[rows], group, self.held_out[rows], self.before[rows], self.after[rows]
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
        for label, peak, held_out in zip(
            self.label, posterior.argmax(axis=1), self.held_out, strict=True
        ):
            count(
                found.setdefault("test" if held_out else "train", {}), classes[label], classes[peak]
            )
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
        loss = f"{self.loss.value:+.3f} ± {self.loss.error:.3f} nat, z {self.loss.z:+.1f}"
        accuracy = f"{100 * self.accuracy.value:+.1f} ± {100 * self.accuracy.error:.1f} points"
        return f"{loss}; accuracy {accuracy}; {self.tracks} tracks of {self.groups} groups"


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
    right = _correct(tracks.after, tracks.label).astype(float) - _correct(
        tracks.before, tracks.label
    )
    return Comparison(
        len(tracks.label),
        tracks.groups,
        change_by_group(loss, tracks.group),
        change_by_group(right, tracks.group),
    )


def calibrated_losses(posterior: Floats, label: Indices) -> Floats:
    """Return -log p [N] of labels under posteriors [N, C] at the temperature that is likeliest on
    these tracks.

    One number a model, fitted for both alike: it favours neither. Fitted to all other groups
    instead it would differ from group to group, which costs power and wins nothing (LOG.md).
    """
    floored = np.maximum(posterior, _LEAST)
    temperature = fit_temperature(losses_by_temperature(floored, label))
    return _losses(sharpen(floored, temperature), label)


def change_by_group(values: Floats, group: Indices) -> Change:
    """Return the mean of the group means of values [N] with its jackknife standard error."""
    means = np.bincount(group, values) / np.bincount(group)
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
    right = _correct(own.after, own.label).astype(float) - _correct(own.before, own.label)
    loss = _losses(own.after, own.label) - _losses(own.before, own.label)
    changes = np.stack([right, loss], axis=1)
    low, high = interval_of_means(changes, own.group, level)
    accuracy, loss_change = (
        Interval(*ends) for ends in zip(changes.mean(axis=0).tolist(), low, high, strict=True)
    )
    return HeldOutChange(own.groups, accuracy, loss_change)


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
    # One resample at a time: all of them at once would not fit for many groups.
    drawn = (generator.multinomial(groups, np.full(groups, 1 / groups)) for _ in range(_RESAMPLES))
    means = np.array([(times @ sums) / (times @ sizes) for times in drawn])
    tail = norm.cdf(np.sqrt(groups / (groups - 1)) * t.ppf((1 - level) / 2, groups - 1))
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low.tolist(), high.tolist()


def read_judged(store: Store, catalog: Manifest, before: Manifest, after: Manifest) -> JudgedTracks:
    """Read what two tables of scores say of labelled tracks: the parts without any are not read,
    and a row a track is all that is kept.

    A track that one of the models gives no posterior counts as one that it knows nothing of.
    """
    labelled = read_labelled(store, catalog)
    classes = catalog.about(CatalogSummary).classes
    parts = sorted(set(labelled["part"].to_pylist()))
    read = partial(_means_of_part, store, classes=len(classes))
    with ThreadPoolExecutor(_READERS) as pool:
        found = [
            _by_id(pool.map(read, [table.files[part] for part in parts]))
            for table in (before, after)
        ]
    scored = pc.is_in(
        labelled["track_id"], pa.array(sorted(found[0].keys() & found[1].keys()), pa.string())
    )
    rows = labelled.filter(scored).sort_by("track_id")
    ids = rows["track_id"].to_pylist()
    means = [
        np.array([of[track_id] for track_id in ids]).reshape(len(ids), len(classes)) for of in found
    ]
    group = np.unique(rows["group_id"].to_numpy(), return_inverse=True)[1]
    return JudgedTracks(
        class_indices(rows["label"], classes),
        group,
        pc.equal(rows["split"], "test").to_numpy(),
        *means,
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
    before, after = (
        _by_id(_means_of_part(store, table.files[part], len(classes)) for part in parts)
        for table in tables
    )
    both = {
        track_id: before[track_id] + after[track_id] for track_id in before.keys() & after.keys()
    }
    guesses = {track_id: classes[int(mean.argmax())] for track_id, mean in both.items()}
    return RoundsSummary(classes=tuple(classes), confusions=confusions_of(tracks, guesses))


def mean_posteriors(scores: pa.Table, classes: int) -> dict[str, Floats]:
    """Return the mean posterior [C] of each track with scored segments; all classes alike where
    none is finite."""
    posterior = posteriors(scores, classes)
    track = track_numbers(scores)
    known = np.isfinite(posterior).all(axis=1)
    tracks = int(track.max()) + 1 if len(track) else 0
    sums = np.zeros((tracks, classes))
    segments = np.bincount(track[known], minlength=tracks)
    np.add.at(sums, track[known], posterior[known])
    means = np.where(segments[:, None] > 0, sums / np.maximum(segments, 1)[:, None], 1 / classes)
    ids = scores["track_id"].unique().to_pylist()
    return dict(zip(ids, means, strict=True))


def _means_of_part(store: Store, file: PartFile, classes: int) -> dict[str, Floats]:
    return mean_posteriors(store.read_part(file, ["track_id", "probabilities"]), classes)


def _by_id(parts: Iterable[dict[str, Floats]]) -> dict[str, Floats]:
    return {track_id: mean for part in parts for track_id, mean in part.items()}


def _correct(posterior: Floats, label: Indices) -> NDArray[np.bool_]:
    """Whether posteriors [N, C] peak at labels [N]; one that knows nothing has no peak."""
    rows = np.arange(len(label))
    others = posterior.copy()
    others[rows, label] = -np.inf
    return np.asarray(posterior[rows, label] > others.max(axis=1))


def _losses(posterior: Floats, label: Indices) -> Floats:
    return np.asarray(-np.log(np.maximum(posterior[np.arange(len(label)), label], _LOWEST)))
