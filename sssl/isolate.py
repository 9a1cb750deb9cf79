"""Run a function on items in processes of their own: a crash, a hang or a memory hog costs one item."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

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

    timeout_s: float = 600.0
    """Wall-clock limit of a track in the decoder, in seconds."""
    memory_mb: int = 2048
    """Memory that decoding a track may add to a process, in MiB."""


class IsolatedPool:
    """A pool of processes, kept warm; one that dies is replaced."""

    def __init__(self, processes: int, limits: Limits, preload: str) -> None:
        # Forked from a clean server that has imported `preload`: no threads or locks of ours come along, and a
        # replacement costs milliseconds instead of an import of torch.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([preload])
        self._limits = limits
        self._pool = ProcessPool(processes, context=context, initializer=_limit_memory, initargs=(limits.memory_mb,))

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result | Failure]:
        """Apply `function` to each item, in order. An exception of `function` itself is raised."""
        futures = [self._pool.schedule(function, args=[item], timeout=self._limits.timeout_s) for item in items]
        return (self._result(future) for future in futures)

    def close(self) -> None:
        """End the processes at once."""
        self._pool.stop()
        self._pool.join()

    def _result(self, future: Any) -> Any:
        try:
            return future.result()
        except FutureTimeout:
            return Failure("decoder-timeout", f"took longer than {self._limits.timeout_s:.0f} s")
        except ProcessExpired as death:
            return Failure("decoder-crash", f"the decoder's process ended with exit code {death.exitcode}")
        except MemoryError:
            return Failure("decoder-memory", f"needed more than {self._limits.memory_mb} MiB")


def _limit_memory(memory_mb: int) -> None:
    import torch

    torch.set_num_threads(1)  # the pool is the parallelism; torch's own threads would fight it
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = pages * resource.getpagesize() + memory_mb * (1 << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
