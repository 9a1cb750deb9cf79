"""How a stage's run ends early. Light to import, for commands that load no Beam."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sssl.store.in_flight import InFlight
    from sssl.store.manifest import Snapshot


class ErrorRatioExceeded(Exception):
    """More tracks failed than the run allows; the committed `snapshot` says which and why."""

    def __init__(self, message: str, snapshot: Snapshot) -> None:
        super().__init__(message)
        self.snapshot = snapshot


class ChurnExceeded(Exception):
    """More song labels would change than the run allows; what is published stays, what was made
    stays beside it."""


class JobFailed(Exception):
    """An engine outside this process gave a job up; parts that were finished stay finished."""


class HandedOver(Exception):
    """The job was built and nobody waits for it: it went to a template's launcher, or this is a dry
    run (no `job`)."""

    def __init__(self, message: str, job: InFlight | None) -> None:
        super().__init__(message)
        self.job = job
