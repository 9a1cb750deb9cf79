"""What a ledger says in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from schemas import Catalog, Ledger


def ledger_counts(tracks: Sequence[Catalog], ledger: Sequence[Ledger]) -> Counter[str]:
    """Count what a part's ledger says; sums over parts are meaningful."""
    counts: Counter[str] = Counter(tracks=len(ledger), segments=sum(entry.segments for entry in ledger))
    for track, entry in zip(tracks, ledger, strict=True):
        counts[f"status/{entry.status}"] += 1
        counts["decoded_s"] += entry.decoded_s  # type: ignore[assignment]
        if entry.reason:
            counts[f"reason/{entry.reason}"] += 1
        if entry.segments and track.label and track.split == "train":
            counts[f"trainable/{track.label}/{track.fold}"] += 1
    return counts
