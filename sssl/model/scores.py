"""The scores of a part as a table, and the counts by which a model is judged. Loads no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas import Catalog, Score, arrow_schema
from sssl.arrays import Floats, inherited_indices
from sssl.model.settings import ScoreConfig


def scores_table(
    segments: pa.Table,
    probabilities: NDArray[np.float32],
    tracks: Sequence[Catalog],
    classes: Sequence[str],
    round: int,
    model_id: str,
) -> pa.Table:
    """Return the scores of a part, aligned with its segments; a posterior that is not finite is a row with a reason."""
    inherited = inherited_indices(segments, tracks, classes)
    bad = np.logical_not(np.isfinite(probabilities).all(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = -np.log(np.clip(probabilities[np.arange(len(inherited)), inherited], 1e-6, 1.0))
    return pa.table(
        {
            "track_id": segments["track_id"],
            "segment_index": segments["segment_index"],
            "round": np.full(len(segments), round, np.int32),
            "probabilities": pa.array(list(probabilities), pa.list_(pa.float32()), mask=bad),
            "loss": pa.array(loss, pa.float32(), mask=bad | (inherited < 0)),
            "reason": pa.array(["non-finite" if row else None for row in bad], pa.string()),
            "model_id": pa.array([model_id] * len(segments), pa.string()),
        },
        schema=arrow_schema(Score),
    )


def folds_of(track_ids: Sequence[str], tracks: Sequence[Catalog], config: ScoreConfig) -> NDArray[np.int64]:
    """Return for each segment [N] the fold whose member scores it, -1 where all do: no member trained on its track."""
    fold = {t.track_id: t.fold if t.split == "train" or not config.average_members else -1 for t in tracks}
    return np.array([fold[track_id] for track_id in track_ids], dtype=np.int64)


def score_counts(scores: pa.Table, tracks: Sequence[Catalog], classes: Sequence[str]) -> Counter[str]:
    """Count what a part's scores say about the model; sums over parts are meaningful.

    `confusion/<split>/<true>/<predicted>` counts labelled tracks by the peak of their mean posterior, `loss/<split>`
    sums the negative log of that mean posterior at the label.
    """
    counts: Counter[str] = Counter({"segments": len(scores), "non-finite": scores["probabilities"].null_count})
    posterior = {track_id: np.mean(rows, axis=0) for track_id, rows in by_track(scores).items()}
    for track in tracks:
        if track.label is None or track.track_id not in posterior:
            continue
        mean = posterior[track.track_id]
        counts[f"confusion/{track.split}/{track.label}/{classes[int(mean.argmax())]}"] += 1
        counts[f"loss/{track.split}"] += float(-np.log(max(mean[classes.index(track.label)], 1e-6)))  # type: ignore[assignment]
    return counts


def by_track(scores: pa.Table) -> dict[str, Floats]:
    """Group the finite posteriors of a scores table by track: [N, C] each, in the order of segments."""
    grouped: dict[str, list[list[float]]] = {}
    for track_id, row in zip(scores["track_id"].to_pylist(), scores["probabilities"].to_pylist(), strict=True):
        if row is not None:
            grouped.setdefault(track_id, []).append(row)
    return {track_id: np.array(rows) for track_id, rows in grouped.items()}
