"""How often a part was begun, so that one that kills its workers does not end the night for all
others.

An engine tries a bundle four times, then it gives the whole job up. A part that was begun three
times and never came to an end is given up before that: the fourth try writes down that it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from pipelines.beam.job import Job
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.layout import tries_folder

MOST_TRIES = 3


@dataclass(frozen=True)
class Tries:
    """Small files, one for each time that a part was begun. They are of one launch: what people
    stop is no try."""

    store: Store
    folder: str

    @classmethod
    def of(cls, job: Job) -> Tries:
        return cls(job.store, f"{tries_folder(job.receipts)}/{uuid4().hex}")

    def made(self, part: int) -> int:
        """Return how often a part was begun."""
        numbers = range(1, MOST_TRIES + 1)
        return next(
            (n - 1 for n in numbers if not self.store.exists(self._path(part, n))), MOST_TRIES
        )

    def begin(self, part: int) -> None:
        """Note that a part is begun once more."""
        self.store.write_bytes(self._path(part, self.made(part) + 1), b"")

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
