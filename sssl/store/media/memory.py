"""Output folders in the memory of this process, for tests and for what need not stay."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, ClassVar

from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from sssl.errors import StoreError
from sssl.store.media.objects import Objects
from sssl.store.pointer import LATEST

_LOCKS: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@dataclass(frozen=True)
class Memory(Objects):
    """A folder by its URL, memory://folder; another process finds nothing there."""

    poll_s: ClassVar[float] = 0.5

    @property
    def fs(self) -> AbstractFileSystem:
        return _Files()

    def file_systems(self, folders: Iterable[str]) -> Sequence[AbstractFileSystem]:
        del folders  # part of the interface
        return (self.fs,)

    @contextmanager
    def hold(self, on_wait: Callable[[str], None]) -> Iterator[str]:
        del on_wait  # part of the interface
        lock = _LOCKS[self.root]
        if not lock.acquire(blocking=False):
            raise StoreError(f"another thread is writing to {self.root}: wait for it")
        try:
            yield LATEST
        finally:
            lock.release()


class _Files(MemoryFileSystem):  # type: ignore[misc]
    """fsspec's files in memory, each opened as a stream of its own: there all readers of a file
    share one."""

    def _open(self, path: str, mode: str = "rb", **options: Any) -> BinaryIO:
        if mode == "rb":
            return BytesIO(self.cat_file(path))
        return super()._open(path, mode, **options)
