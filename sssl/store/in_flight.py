"""A job that nobody waits for: from its launch until its tables are published no other command
writes to the folder.

`in_flight.json` names its tables. Its signs of life are the receipts of parts that it finishes. One
that gives none for QUIET_H counts as dead, unless it has committed its tables: then it only waits
for `sssl publish`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.layout import receipts_folder

_FILE = "in_flight.json"
QUIET_H = 12.0
"""Longer than a job may wait for machines, or work on one part."""


@dataclass(frozen=True)
class InFlight:
    """A job that was launched: the generations that it writes, the last of which has the
    receipts."""

    stage: str
    round: int | None
    tables: tuple[str, ...]
    parts: int
    launched_at: str
    max_error_ratio: float = 1.0
    """Share of failed tracks above which its tables are not published."""
    max_churn: float | None = None
    """Share of changed song labels above which they are not published; None: whatever changes."""


def in_flight(store: Store) -> InFlight | None:
    """Return the job that is in flight, None if there is none, or if it counts as dead.

    Raises:
        StoreError: the note of it is damaged.
    """
    job = noted(store)
    if job is not None and (is_committed(store, job) or _quiet_h(store, job) < QUIET_H):
        return job
    return None


def noted(store: Store) -> InFlight | None:
    """Return the job that was launched last and not published, dead or not; None if there is none.

    Raises:
        StoreError: the note of it is damaged.
    """
    try:
        job = store.read_record_if_any(_FILE, InFlight)
        if job is not None:
            _time_of(job)
    except (StoreError, ValueError) as error:
        raise StoreError(
            f"{error}; look whether a job runs, then give it up with `sssl publish --abandon`"
        ) from None
    return job


def is_committed(store: Store, job: InFlight) -> bool:
    """Whether a job has committed all its tables."""
    return all(store.manifest(*ref.split("/")) for ref in job.tables)


def launched(store: Store, job: InFlight) -> None:
    """Note that a job is in flight from now on."""
    store.write_record(_FILE, job)


def land(store: Store) -> None:
    """Note that no job is in flight any more, if it has committed its tables."""
    job = noted(store)
    if job is not None and is_committed(store, job):
        give_up(store)


def give_up(store: Store) -> None:
    """Note that no job is in flight any more, whatever the note of it says."""
    store.delete(_FILE)


def refuse_others(store: Store, stage: str | None = None) -> None:
    """Refuse to write to a folder while a job is in flight, but for one of that stage.

    Raises:
        StoreError: so it is.
    """
    job = in_flight(store)
    if job is not None and job.stage != stage:
        raise StoreError(refusal(store, job))


def refusal(store: Store, job: InFlight) -> str:
    """Say which job is in flight, how far it is, and what to do."""
    stage = job.stage if job.round is None else f"{job.stage} {job.round}"
    return (
        f"a job of {stage}, launched at {job.launched_at}, is writing to {store.root}:"
        f" {progress(store, job)}; wait for it and `sssl publish`, or if it was cancelled or"
        " failed, give it up with `sssl publish --abandon`"
    )


def progress(store: Store, job: InFlight) -> str:
    """Say how many parts of a job are done, and when it gave the last sign of life."""
    done = len(store.names(receipts_folder(job.tables[-1])))
    quiet_min = 60 * _quiet_h(store, job)
    return (
        f"{done} of {job.parts} parts are done, the last sign of life is {quiet_min:.0f}"
        " minutes old"
    )


def _time_of(job: InFlight) -> datetime:
    """Return when a job was launched.

    Raises:
        ValueError: it says no time, or none of a zone.
    """
    launched_at = datetime.fromisoformat(job.launched_at)
    if launched_at.tzinfo is None:
        raise ValueError(f"{_FILE}: launched_at {job.launched_at} names no time zone")
    return launched_at


def _quiet_h(store: Store, job: InFlight) -> float:
    """Return the hours since the last sign of life."""
    signs = (_time_of(job), store.medium.written_at(receipts_folder(job.tables[-1])))
    last = max(sign for sign in signs if sign is not None)
    return (datetime.now(UTC) - last).total_seconds() / 3600
