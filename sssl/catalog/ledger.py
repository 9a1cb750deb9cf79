"""What a ledger says in all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import Catalog, Ledger
from schemas.summaries import LedgerSummary
from sssl.catalog.assign import whole

SUMMED = ("track_id", "segments", "decoded_s", "status", "reason")
"""Columns of the ledger that are summed up."""


def summarize_ledger(tracks: Sequence[Catalog], ledger: Sequence[Ledger]) -> LedgerSummary:
    """Sum up the ledger of a part, given its tracks in the same order."""
    trainable: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for track, entry in zip(tracks, ledger, strict=True):
        if entry.segments and track.label and track.split == "train":
            trainable[track.label][track.fold] += 1
    return LedgerSummary(
        tracks=len(ledger),
        segments=sum(entry.segments for entry in ledger),
        decoded_s=sum(entry.decoded_s for entry in ledger),
        statuses=Counter(str(entry.status) for entry in ledger),
        reasons=Counter(entry.reason for entry in ledger if entry.reason),
        trainable={label: dict(by_fold) for label, by_fold in trainable.items()},
    )


def summarize_whole_ledger(tracks: pa.Table, ledger: pa.Table) -> LedgerSummary:
    """Sum up likewise, in columns, what a ledger says of the tracks of a catalog.

    The ledger may have other tracks, too.
    """
    place = pc.index_in(whole(tracks["track_id"]), whole(ledger["track_id"]))
    rows = ledger.select(SUMMED).take(place)
    reason = rows["reason"]
    given_reason = pc.if_else(pc.equal(reason, ""), None, reason)
    return LedgerSummary(
        tracks=len(rows),
        segments=pc.sum(rows["segments"]).as_py() or 0,
        decoded_s=_added_in_order(rows["decoded_s"]),
        statuses=_counts(rows["status"]),
        reasons=_counts(given_reason),
        trainable=_trainable(tracks, rows["segments"]),
    )


def _trainable(tracks: pa.Table, segments: pa.ChunkedArray) -> dict[str, dict[int, int]]:
    """Count by label and fold the labelled train tracks that have segments."""
    is_labelled = tracks["label"].is_valid()
    is_train = pc.fill_null(pc.equal(tracks["split"], "train"), False)
    has_segments = pc.greater(segments, 0)
    learned = tracks.filter(pc.and_(pc.and_(is_labelled, is_train), has_segments))
    by_label_and_fold = learned.group_by(["label", "fold"], use_threads=False)
    trainable: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for found in by_label_and_fold.aggregate([([], "count_all")]).to_pylist():
        trainable[found["label"]][found["fold"]] = found["count_all"]
    return dict(trainable)


def _added_in_order(seconds: pa.ChunkedArray) -> float:
    """Add one after the other, as the sum over parts does: floats added in another order differ."""
    sums = np.cumsum(seconds.to_numpy().astype(np.float64))
    if len(sums):
        return float(sums[-1])
    return 0.0


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    found = pc.value_counts(values.drop_null()).to_pylist()
    return {count["values"]: count["counts"] for count in found}
