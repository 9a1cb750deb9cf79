"""Output folders in a bucket of an object store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from fsspec import AbstractFileSystem

from sssl.store.media import lease
from sssl.store.media.objects import Objects


@dataclass(frozen=True)
class Bucket(Objects):
    """A folder by its URL, as gs://bucket/folder. It has no locks, so who writes to it holds a
    lease."""

    poll_s: ClassVar[float] = 5.0  # a listing costs money

    def forget(self) -> int:
        """Delete the noncurrent versions of a bucket at Google; others have rules for theirs."""
        fs = self.fs
        return int(fs.delete_noncurrent(self.root)) if _is_of_google(fs) else 0

    def undeletable_days(self) -> float:
        fs = self.fs
        return float(fs.soft_deletion_days(self.root)) if _is_of_google(fs) else 0.0

    def hold(self, on_wait: Callable[[str], None]) -> AbstractContextManager[str]:
        return lease.held(self, on_wait)


def _is_of_google(fs: AbstractFileSystem) -> bool:
    return hasattr(fs, "delete_noncurrent")
