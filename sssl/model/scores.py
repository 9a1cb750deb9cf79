"""The scores of a part as a table, and the counts by which a model is judged. Loads no torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas import Catalog, Score, arrow_schema
from schemas.summaries import ScoresSummary, confusions_of
from sssl.arrays import Floats, inherited_indices, of_tracks, real_lists, track_numbers
from sssl.metrics import LEAST_PROBABILITY
from sssl.model.settings import ScoreConfig

_SCHEMA = arrow_schema(Score)


def scores_table(
    segments: pa.Table,
    probabilities: NDArray[np.float32],
    tracks: Sequence[Catalog],
    classes: Sequence[str],
    round: int,
    model_id: str,
    why: str = "non-finite",
) -> pa.Table:
    """Return the scores of a part, aligned with its segments.

    A posterior that is not finite is a row with a reason: `why`.
    """
    rows = len(segments)
    inherited = inherited_indices(segments, tracks, classes)
    is_finite = np.asarray(np.isfinite(probabilities).all(axis=1))
    has_label = inherited >= 0
    # Of any class where there is no label: such a loss is masked below.
    of_inherited = probabilities[np.arange(rows), inherited]
    with np.errstate(divide="ignore", invalid="ignore"):
        at_least = np.clip(of_inherited, LEAST_PROBABILITY, 1.0)
        loss = -np.log(at_least)
    has_no_loss = ~(is_finite & has_label)
    # One reason for all rows, masked where the posterior is finite.
    reason = np.full(rows, why)
    rounds = np.full(rows, round, np.int32)
    columns = {}
    columns["track_id"] = segments["track_id"]
    columns["segment_index"] = segments["segment_index"]
    columns["round"] = pa.array(rounds)
    columns["probabilities"] = _lists(probabilities, ~is_finite)
    columns["loss"] = pa.array(loss, pa.float32(), mask=has_no_loss)
    columns["reason"] = pa.array(reason, pa.string(), mask=is_finite)
    columns["model_id"] = pa.repeat(pa.scalar(model_id), rows)
    return pa.table(columns, schema=_SCHEMA)


def folds_of(
    segments: pa.Table, tracks: Sequence[Catalog], config: ScoreConfig
) -> NDArray[np.int64]:
    """Return for each segment [N] the fold whose member scores it.

    It is -1 where all members do, since none of them trained on the track.
    """
    fold: dict[str, int] = {}
    for track in tracks:
        if track.split == "train" or not config.average_members:
            fold[track.track_id] = track.fold
    return of_tracks(segments, fold)


def summarize_scores(
    scores: pa.Table, tracks: Sequence[Catalog], classes: Sequence[str]
) -> ScoresSummary:
    """Sum up the scores of a part: the class that each labelled track's mean posterior peaks at,
    and its loss."""
    posterior = {}
    guesses = {}
    for track_id, rows in by_track(scores).items():
        mean = np.mean(rows, axis=0)
        posterior[track_id] = mean
        guesses[track_id] = classes[int(mean.argmax())]
    losses: defaultdict[str, float] = defaultdict(float)
    for track in tracks:
        found = posterior.get(track.track_id)
        if found is None or track.label is None or track.split is None:
            continue
        label = classes.index(track.label)
        # Bounded like the loss of a segment, so that no single track decides the sum.
        at_label = max(found[label], LEAST_PROBABILITY)
        losses[track.split] += float(-np.log(at_label))
    return ScoresSummary(
        classes=tuple(classes),
        segments=len(scores),
        non_finite=scores["probabilities"].null_count,
        confusions=confusions_of(tracks, guesses),
        losses=dict(losses),
        reasons=tracks_by_reason(scores),
    )


def tracks_by_reason(rows: pa.Table) -> dict[str, int]:
    """Count the tracks that have a row with a reason, by reason."""
    has_reason = rows["reason"].is_valid()
    lacking = rows.filter(has_reason)
    found = lacking.group_by(["track_id", "reason"]).aggregate([])
    counts = Counter(found["reason"].to_pylist())
    return dict(sorted(counts.items()))


def by_track(scores: pa.Table) -> dict[str, Floats]:
    """Group the finite posteriors of a scores table by track: [N, C] each, in the order of
    segments."""
    is_finite = scores["probabilities"].is_valid()
    finite = scores.filter(is_finite)
    if not len(finite):
        return {}
    rows = real_lists(finite, "probabilities")
    track = track_numbers(finite)
    by_number = np.argsort(track, kind="stable")
    counts = np.bincount(track)
    ends = np.cumsum(counts)
    grouped = np.split(rows[by_number], ends[:-1])
    # Numbers are given in the order in which ids come first.
    track_ids = finite["track_id"].unique()
    named = zip(track_ids.to_pylist(), grouped, strict=True)
    return dict(named)


def _lists(probabilities: NDArray[np.float32], null: NDArray[np.bool_]) -> pa.Array:
    """Return rows [N, C] as a column of lists, some of them null."""
    classes = probabilities.shape[1]
    lengths = np.where(null, 0, classes)
    offsets = np.zeros(len(null) + 1, np.int32)
    offsets[1:] = np.cumsum(lengths)
    values = probabilities[~null].ravel()
    mask = pa.array(null)
    return pa.ListArray.from_arrays(offsets, values, mask=mask)
