"""Output folders in a bucket of an object store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from sssl.store.media import lease
from sssl.store.media.objects import Objects


@dataclass(frozen=True)
class Bucket(Objects):
    """A folder by its URL, as gs://bucket/folder. It has no locks, so who writes to it holds a
    lease."""

    poll_s: ClassVar[float] = 5.0  # a listing costs money

    def hold(self, on_wait: Callable[[str], None]) -> AbstractContextManager[str]:
        return lease.held(self, on_wait)
