"""What this process reads of tables and of audio, and how long its threads wait for that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

Answer = TypeVar("Answer")


class Read(NamedTuple):
    """Bytes that were read, and the seconds that it took, those of all threads added up."""

    bytes: int = 0
    seconds: float = 0.0


class ReadMeter:
    """Adds up what is read, and hands it out once, whichever thread asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read = Read()
        self.requests = 0
        """Pieces of tables that were read since this process began: of a bucket, a request each."""

    def add(self, read: Read) -> None:
        with self._lock:
            self._read = Read(self._read.bytes + read.bytes, self._read.seconds + read.seconds)

    def lap(self) -> Read:
        """Return what was read since the last lap."""
        with self._lock:
            read, self._read = self._read, Read()
            return read

    def of(self, read: Callable[..., Answer], *args: Any, size: Callable[[Answer], int]) -> Answer:
        """Read something, and add what `size` says of it."""
        started_s = time.perf_counter()
        answer = read(*args)
        self.add(Read(size(answer), time.perf_counter() - started_s))
        return answer

    def metered(self, file: BinaryIO) -> BinaryIO:
        """Return a file of which each piece that is read is added, and counts as a request."""
        return cast(BinaryIO, _Metered(file, self))


class _Metered:
    """A file like another one, but for its reads."""

    def __init__(self, file: BinaryIO, meter: ReadMeter) -> None:
        self._file, self._meter = file, meter

    def read(self, size: int = -1) -> bytes:
        self._meter.requests += 1
        return self._meter.of(self._file.read, size, size=len)

    def readinto(self, buffer: Any) -> int:
        self._meter.requests += 1
        return self._meter.of(self._file.readinto, buffer, size=int)  # type: ignore[attr-defined]

    def __enter__(self) -> _Metered:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


READING = ReadMeter()
"""Of this process, which works for one stage at a time."""
