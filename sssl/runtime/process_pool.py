"""Run a function on items in processes of their own: a crash, a hang or a memory hog costs one item."""

from __future__ import annotations

import ctypes
import multiprocessing
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """An item that took its process down: a reason code (`decoder-*`) and what happened."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Limits:
    """Limits of one item."""

    timeout_s: float | None = 600.0
    """Wall-clock limit of a track in the decoder, in seconds; none: no limit."""
    memory_mb: int | None = 2048
    """Memory that decoding a track may add to a process, in MiB; none: no limit."""


class IsolatedPool:
    """A pool of processes, kept warm; one that dies is replaced."""

    def __init__(self, processes: int, limits: Limits, preload: str) -> None:
        # Forked from a clean server that has imported `preload`: no threads or locks of ours come along, and a
        # replacement costs milliseconds instead of an import of torch.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([preload])
        self._limits = limits
        self._pool = ProcessPool(processes, context=context, initializer=_set_up, initargs=(limits.memory_mb,))

    def submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        """Start on an item; `result` of the future is what `result()` of this class takes."""
        return self._pool.schedule(function, args=[item], timeout=self._limits.timeout_s)

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result | Failure]:
        """Apply `function` to each item, in order. An exception of `function` itself is raised."""
        for future in [self.submit(function, item) for item in items]:
            yield self.result(future)

    def result(self, future: Future[Any]) -> Any | Failure:
        """Wait for an item. An exception of the function itself is raised."""
        try:
            return future.result()
        except FutureTimeout:
            return Failure("decoder-timeout", f"took longer than {self._limits.timeout_s} s")
        except ProcessExpired as death:
            return Failure("decoder-crash", f"its process ended with exit code {death.exitcode}")
        except MemoryError:
            return Failure("decoder-memory", f"needed more than {self._limits.memory_mb} MiB")

    def close(self) -> None:
        """End the processes at once."""
        self._pool.stop()
        self._pool.join()


def _set_up(memory_mb: int | None) -> None:
    """Prepare a process of the pool: it dies with its parent, uses one torch thread, and keeps to its memory limit."""
    # If we are killed the fork server goes, and with it, by this, a process that hangs in a decoder.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    import torch  # here, so that whoever only wants the limits need not load it

    torch.set_num_threads(1)  # the pool is the parallelism; torch's own threads would fight it
    if memory_mb is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        limit = pages * resource.getpagesize() + memory_mb * (1 << 20)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
