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
from sssl.model.settings import ScoreConfig

_SCHEMA = arrow_schema(Score)
_LEAST = 1e-6
"""Least probability: a loss is 13.8 nats at most, so that no single segment outweighs all
others."""


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
    bad = np.logical_not(np.isfinite(probabilities).all(axis=1))
    # Of any class where there is no label: such a loss is masked below.
    of_inherited = probabilities[np.arange(rows), inherited]
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = -np.log(np.clip(of_inherited, _LEAST, 1.0))
    columns = {
        "track_id": segments["track_id"],
        "segment_index": segments["segment_index"],
        "round": np.full(rows, round, np.int32),
        "probabilities": _lists(probabilities, bad),
        "loss": pa.array(loss, pa.float32(), mask=bad | (inherited < 0)),
        "reason": pa.array(np.full(rows, why), pa.string(), mask=~bad),
        "model_id": pa.repeat(pa.scalar(model_id), rows),
    }
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
    posterior = {track_id: np.mean(rows, axis=0) for track_id, rows in by_track(scores).items()}
    guesses = {track_id: classes[int(mean.argmax())] for track_id, mean in posterior.items()}
    losses: defaultdict[str, float] = defaultdict(float)
    for track in tracks:
        mean = posterior.get(track.track_id)
        if mean is None or track.label is None or track.split is None:
            continue
        at_label = mean[classes.index(track.label)]
        losses[track.split] += float(-np.log(max(at_label, _LEAST)))
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
    lacking = rows.filter(rows["reason"].is_valid()).select(["track_id", "reason"])
    found = lacking.group_by(["track_id", "reason"]).aggregate([])
    return dict(sorted(Counter(found["reason"].to_pylist()).items()))


def by_track(scores: pa.Table) -> dict[str, Floats]:
    """Group the finite posteriors of a scores table by track: [N, C] each, in the order of
    segments."""
    finite = scores.filter(scores["probabilities"].is_valid())
    if not len(finite):
        return {}
    rows = real_lists(finite, "probabilities")
    track = track_numbers(finite)
    by_number = np.argsort(track, kind="stable")
    ends = np.cumsum(np.bincount(track))
    grouped = np.split(rows[by_number], ends[:-1])
    return dict(zip(finite["track_id"].unique().to_pylist(), grouped, strict=True))


def _lists(probabilities: NDArray[np.float32], null: NDArray[np.bool_]) -> pa.Array:
    """Return rows [N, C] as a column of lists, some of them null."""
    lengths = np.where(null, 0, probabilities.shape[1])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, probabilities[~null].ravel(), mask=pa.array(null))
