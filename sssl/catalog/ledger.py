"""What a ledger says in all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from schemas import Catalog, Ledger
from schemas.summaries import LedgerSummary


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
