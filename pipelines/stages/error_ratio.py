"""How many tracks may fail."""

from __future__ import annotations

import pyarrow.compute as pc

from pipelines.errors import ErrorRatioExceeded
from schemas import Status
from schemas.summaries import LedgerSummary
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot
from sssl.words import counted, some

_NAMED = 5


def check_error_ratio(store: Store, snapshot: Snapshot, allowed: float) -> None:
    """Check that no more than the allowed share of a catalog's tracks failed.

    Raises:
        ErrorRatioExceeded: more did; the message says why, and names some.
    """
    ledger = snapshot.get("ledger")
    failed = ledger.about(LedgerSummary).statuses.get(Status.FAILED, 0) / ledger.rows
    if failed > allowed:
        share = f"{failed:.0%} of {counted(ledger.rows, 'track')} failed"
        why = f"{reasons_of(ledger)} ({some(_failed(store, ledger), _NAMED)})"
        raise ErrorRatioExceeded(
            f"{share}, --max-error-ratio allows {allowed:.0%}: {why}", snapshot
        )


def _failed(store: Store, ledger: Manifest) -> list[str]:
    """Return the ids of tracks that failed: one more than are named, if there are so many."""
    found: list[str] = []
    for _, rows in store.iter_parts(ledger, ["track_id", "status"]):
        is_failed = pc.equal(rows["status"], Status.FAILED.value)
        found += rows["track_id"].filter(is_failed).to_pylist()
        if len(found) > _NAMED:
            break
    return sorted(found)


def reasons_of(ledger: Manifest) -> str:
    """List the reasons in a ledger with their counts."""
    reasons = ledger.about(LedgerSummary).reasons
    return ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
