"""How often a part was begun, so that one that kills its workers does not end the night for all
others.

An engine tries a bundle four times, then it gives the whole job up. A part that was begun three
times and never came to an end is given up before that: the fourth try writes down that it was.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple
from uuid import uuid4

from pipelines.beam.job import Job, PartRef
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.layout import tries_folder

LOGGER = logging.getLogger(__name__)
MOST_TRIES = 3
_GIVEN_UP = "given-up"


class Sorted(NamedTuple):
    """Parts by how often they were begun: never; before, so that each is done alone, lest the next
    kill counts for another part, too; and as often as may be."""

    fresh: list[PartRef]
    begun: list[PartRef]
    lost: list[PartRef]


@dataclass(frozen=True)
class Tries:
    """Small files, one for each time that a part was begun. They are of one launch: what people
    stop is no try."""

    store: Store
    folder: str
    stage: str
    parts: int
    """Parts of the job."""
    most_given_up: float
    """Share of them that may be given up."""

    @classmethod
    def of(cls, job: Job, most_given_up: float) -> Tries:
        folder = f"{tries_folder(job.receipts)}/{uuid4().hex}"
        return cls(job.store, folder, job.stage, job.parts, most_given_up)

    def made(self, part: int) -> int:
        """Return how often a part was begun."""
        numbers = range(1, MOST_TRIES + 1)
        return next(
            (n - 1 for n in numbers if not self.store.exists(self._path(part, n))), MOST_TRIES
        )

    def begin(self, part: int) -> None:
        """Note that a part is begun once more."""
        self.store.write_bytes(self._path(part, self.made(part) + 1), b"")

    def sort(self, refs: Iterable[PartRef]) -> Sorted:
        """Sort parts by how often they were begun."""
        found = Sorted([], [], [])
        for ref in refs:
            made = self.made(ref.part)
            parts = found.lost if made >= MOST_TRIES else found.begun if made else found.fresh
            parts.append(ref)
        return found

    def give_up(self, part: int) -> str:
        """Note that a part is given up, and return what is said of its tracks.

        Raises:
            StoreError: too many parts are, so that the cause is hardly in them.
        """
        LOGGER.error(
            "%s: part %d is given up: it ended its worker %d times", self.stage, part, MOST_TRIES
        )
        self.store.write_bytes(f"{self.folder}/{part:05d}.{_GIVEN_UP}", b"")
        given_up = [name for name in self.store.names(self.folder) if name.endswith(_GIVEN_UP)]
        if len(given_up) > self.most_given_up * self.parts:
            raise StoreError(
                f"{self.stage}: stopped, since {len(given_up)} of {self.parts} parts ended their "
                f"workers {MOST_TRIES} times each, and --max-error-ratio allows "
                f"{self.most_given_up:.0%}: look at the workers' logs and at their memory; the "
                "same command goes on from the parts that are done"
            )
        return f"{MOST_TRIES} workers ended amid part {part}"

    @contextmanager
    def blameless(self, part: int) -> Iterator[None]:
        """Take a try back where the storage failed: that is not the part's doing, and gives no
        track up."""
        try:
            yield
        except (OSError, StoreError):
            if tries := self.made(part):
                self.store.delete(self._path(part, tries))
            raise

    def _path(self, part: int, number: int) -> str:
        return f"{self.folder}/{part:05d}.{number}"
