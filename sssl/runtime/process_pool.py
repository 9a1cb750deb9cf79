"""Run a function on items in processes of their own: a crash, a hang or a memory hog costs one item."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pebble import ProcessExpired, ProcessPool
from pebble.pool.process import PoolManager

Item = TypeVar("Item")
Result = TypeVar("Result")
_BEAT_S, _PAUSE_S = 0.5, 20.0
"""How often to look at the clock, and what of a difference is taken for standing still."""
_MOST_IDLE_DEATHS = 100


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
        # Nothing is ever sent. We alone hold the writing end, and the system closes it when we are gone.
        watched, self._held = context.Pipe(duplex=False)
        arguments = (watched, limits.memory_mb)
        self._pool = ProcessPool(processes, context=context, initializer=_set_up, initargs=arguments)
        self._pool._pool_manager = _Replacing(self._pool._context, context)
        self._asked: WeakKeyDictionary[Future[Any], tuple[Callable[[Any], Any], Any, int]] = WeakKeyDictionary()
        self._pulse = _Pulse()
        _start_fork_server(context)

    def submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        """Start on an item; `result` of the future is what `result()` of this class takes."""
        future: Future[Result] = self._pool.schedule(function, args=[item], timeout=self._limits.timeout_s)
        self._asked[future] = (function, item, self._pulse.pauses)
        return future

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result | Failure]:
        """Apply `function` to each item, in order. An exception of `function` itself is raised."""
        for future in [self.submit(function, item) for item in items]:
            yield self.result(future)

    def result(self, future: Future[Any]) -> Any | Failure:
        """Wait for an item. An exception of the function itself is raised."""
        try:
            return future.result()
        except FutureTimeout:
            function, item, pauses = self._asked[future]
            time.sleep(2 * _BEAT_S)  # whoever wakes up first may be the one that tells the time limit
            if self._pulse.pauses > pauses:
                return self.result(self.submit(function, item))  # the machine slept, not the decoder
            return Failure("decoder-timeout", f"took longer than {self._limits.timeout_s} s")
        except ProcessExpired as death:
            if death.exitcode == -signal.SIGKILL:
                return Failure("decoder-killed", "its process was killed (signal 9)")
            return Failure("decoder-crash", f"its process ended with exit code {death.exitcode}")
        except MemoryError:
            return Failure("decoder-memory", f"needed more than {self._limits.memory_mb} MiB")

    def close(self) -> None:
        """End the processes at once."""
        self._pulse.stop()
        self._pool.stop()
        self._pool.join()


class _Replacing(PoolManager):
    """Starts another process where one dies between two items; pebble would give the pool up."""

    deaths = 0

    def find_expired_task(self, worker_id: int) -> Any:
        """Return what a process that died was working on.

        Raises:
            LookupError: nothing.
            BrokenProcessPool: so it is time and again.
        """
        running = [task for task in list(self.task_manager.tasks.values()) if task.worker_id == worker_id]
        if running:
            return running[0]
        self.deaths += 1
        if self.deaths > _MOST_IDLE_DEATHS:
            raise BrokenProcessPool("processes of the pool die before they start on anything")
        raise LookupError(worker_id)


class _Pulse:
    """Notices that this machine, or all our processes, stood still: time limits go by a clock that did not."""

    def __init__(self) -> None:
        self.pauses = 0
        """How often that happened so far."""
        self._stopped = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        last_s = time.time()
        while not self._stopped.wait(_BEAT_S):
            now_s = time.time()
            self.pauses += now_s - last_s > _PAUSE_S
            last_s = now_s


def _start_fork_server(context: ForkServerContext) -> None:
    """Start the process that all others are forked from, and wait for its imports. Ctrl-C must not reach it, nor
    processes that it still has to start when nobody waits for them any more: they would all say so."""
    resource_tracker.ensure_running()  # first, as it lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    first = context.Process(target=_nothing)
    first.start()
    first.join()


def _nothing() -> None: ...


def _set_up(watched: Connection, memory_mb: int | None) -> None:
    """Prepare a process of the pool: it dies with whoever made the pool, uses one torch thread, and keeps to its
    memory limit."""
    _die_when_closed(watched)
    import torch  # here, so that whoever only wants the limits need not load it

    torch.set_num_threads(1)  # the pool is the parallelism; torch's own threads would fight it
    if memory_mb is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        limit = pages * resource.getpagesize() + memory_mb * (1 << 20)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _die_when_closed(watched: Connection) -> None:
    """Have the system end this process once the other end of a pipe is closed, whatever it is doing.

    A parent-death signal would not do: the parent is the fork server, which stays for as long as any of its children.
    Nor would a thread that waits, which gets no turn while a decoder hangs. A pipe whose writer goes sends SIGIO.
    """
    # Opened anew, since all processes of the pool share what came with the connection, and SIGIO has one receiver.
    pipe = os.open(f"/proc/self/fd/{watched.fileno()}", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if watched.poll():
        os._exit(1)  # closed before we listened
