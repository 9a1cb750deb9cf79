"""What a ledger says in all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import Catalog, Ledger
from schemas.summaries import LedgerSummary
from sssl.catalog.assign import whole

SUMMED = ("track_id", "segments", "decoded_s", "status", "reason")
"""Columns of the ledger that are summed up."""
_NOTHING = LedgerSummary()


def summarize_ledger(tracks: Sequence[Catalog], ledger: Sequence[Ledger]) -> LedgerSummary:
    """Sum up the ledger of a part, given its tracks in the same order."""
    segments = 0
    decoded_s = 0.0
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    trainable: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for track, entry in zip(tracks, ledger, strict=True):
        segments += entry.segments
        decoded_s += entry.decoded_s
        statuses[str(entry.status)] += 1
        if entry.reason:
            reasons[entry.reason] += 1
        if entry.segments and track.label and track.split == "train":
            trainable[track.label][track.fold] += 1
    by_label = {label: dict(by_fold) for label, by_fold in trainable.items()}
    return LedgerSummary(
        tracks=len(ledger),
        segments=segments,
        decoded_s=decoded_s,
        statuses=statuses,
        reasons=reasons,
        trainable=by_label,
    )


def summarize_whole_ledger(
    tracks: pa.Table, ledger: pa.Table, before: LedgerSummary = _NOTHING
) -> LedgerSummary:
    """Sum up likewise, in columns, what a ledger says of the tracks of a catalog.

    The ledger may have other tracks, too. Of a catalog that comes in pieces, `before` is the
    summary of those before.
    """
    track_ids = whole(tracks["track_id"])
    place = pc.index_in(track_ids, whole(ledger["track_id"]))
    rows = ledger.select(SUMMED).take(place)
    reason = rows["reason"]
    given_reason = pc.if_else(pc.equal(reason, ""), None, reason)
    segments = rows["segments"]
    summed = pc.sum(segments)
    own = LedgerSummary(
        tracks=len(rows),
        segments=summed.as_py() or 0,
        statuses=_counts(rows["status"]),
        reasons=_counts(given_reason),
        trainable=_trainable(tracks, segments),
    )
    both = before + own
    decoded_s = _added_in_order(before.decoded_s, rows["decoded_s"])
    return replace(both, decoded_s=decoded_s)


def _trainable(tracks: pa.Table, segments: pa.ChunkedArray) -> dict[str, dict[int, int]]:
    """Count by label and fold the labelled train tracks that have segments."""
    is_labelled = tracks["label"].is_valid()
    is_train = pc.fill_null(pc.equal(tracks["split"], "train"), False)
    is_learned = pc.and_(is_labelled, is_train)
    has_segments = pc.greater(segments, 0)
    learned = tracks.filter(pc.and_(is_learned, has_segments))
    # Without threads the groups come in the order of the rows.
    groups = learned.group_by(["label", "fold"], use_threads=False)
    counted = groups.aggregate([([], "count_all")])
    trainable: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for found in counted.to_pylist():
        by_fold = trainable[found["label"]]
        by_fold[found["fold"]] = found["count_all"]
    return dict(trainable)


def _added_in_order(before: float, seconds: pa.ChunkedArray) -> float:
    """Add one after the other, as the sum over parts does: floats added in another order differ."""
    values = seconds.to_numpy().astype(np.float64)
    from_before = np.append(before, values)
    sums = np.cumsum(from_before)
    return float(sums[-1])


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    known = values.drop_null()
    counts = pc.value_counts(known).to_pylist()
    return {count["values"]: count["counts"] for count in counts}
