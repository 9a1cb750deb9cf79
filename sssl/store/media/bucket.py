"""Output folders in a bucket of an object store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from glob import escape
from typing import ClassVar

from fsspec import AbstractFileSystem

from sssl.store.media import lease
from sssl.store.media.objects import Objects


@dataclass(frozen=True)
class Bucket(Objects):
    """A folder by its URL, as gs://bucket/folder. It has no locks, so who writes to it holds a
    lease."""

    poll_s: ClassVar[float] = 5.0  # a listing costs money

    def delete_many(self, paths: Sequence[str]) -> None:
        """Delete objects; at Google a hundred in a request."""
        fs = self.fs
        # fsspec would take a name with a sign of patterns for one, and delete whatever matches.
        plain = [path for path in paths if _is_plain(self._at(path))] if _is_of_google(fs) else []
        if plain:
            with suppress(FileNotFoundError):  # none of them was there
                fs.rm([self._at(path) for path in plain])
        named = set(plain)
        super().delete_many([path for path in paths if path not in named])

    def forget(self) -> int:
        """Delete the noncurrent versions of a bucket at Google; others have rules for theirs."""
        fs = self.fs
        return int(fs.delete_noncurrent(self.root)) if _is_of_google(fs) else 0

    def undeletable_days(self) -> float:
        fs = self.fs
        return float(fs.soft_deletion_days(self.root)) if _is_of_google(fs) else 0.0

    def hold(self, on_wait: Callable[[str], None]) -> AbstractContextManager[str]:
        return lease.held(self, on_wait)


def _is_plain(url: str) -> bool:
    return escape(url) == url


def _is_of_google(fs: AbstractFileSystem) -> bool:
    return hasattr(fs, "delete_noncurrent")
