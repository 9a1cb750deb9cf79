"""How many tracks may fail."""

from __future__ import annotations

from pipelines.errors import ErrorRatioExceeded
from schemas import Status
from schemas.summaries import LedgerSummary
from sssl.store.manifest import Manifest, Snapshot


def check_error_ratio(snapshot: Snapshot, allowed: float) -> None:
    """Check that no more than the allowed share of a catalog's tracks failed.

    Raises:
        ErrorRatioExceeded: more did.
    """
    ledger = snapshot.get("ledger")
    failed = ledger.about(LedgerSummary).statuses.get(Status.FAILED, 0) / ledger.rows
    if failed > allowed:
        raise ErrorRatioExceeded(
            f"{failed:.0%} of {ledger.rows} tracks failed, --max-error-ratio allows {allowed:.0%}: "
            + reasons_of(ledger),
            snapshot,
        )


def reasons_of(ledger: Manifest) -> str:
    """List the reasons in a ledger with their counts."""
    reasons = ledger.about(LedgerSummary).reasons
    return ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
