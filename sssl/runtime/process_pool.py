"""Run a function on items in processes of their own: a crash, a hang or a memory hog costs one
item."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from sssl.config import require
from sssl.runtime.reading import READING

Item = TypeVar("Item")
Result = TypeVar("Result")
_BEAT_S = 0.5
_PAUSE_S = 20.0
"""How often to look at the clock, and what of a difference is taken for standing still."""
_MOST_IDLE_DEATHS = 100
_UNREADY_S = 300.0
"""How long a process may take to start, and to take an item."""
_UNREAPED_S = 10.0
"""How long one that has let go of its pipe may take to end by itself."""


_OF_PROCESSES = threading.Lock()
"""Held while a process is started or reaped: `multiprocessing` leaves that to one thread at a
time."""


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

    def __post_init__(self) -> None:
        for name in ("timeout_s", "memory_mb"):
            limit = getattr(self, name)
            require(limit is None or limit > 0, name, limit, "above 0, or none")


class IsolatedPool:
    """A pool of processes, kept warm; one that dies is replaced.

    Each has a pipe and a thread of ours to itself. Pools whose processes share a queue share its
    lock, too, and one that is killed while it holds that lock stops all the others for good.
    """

    def __init__(self, processes: int, limits: Limits, preload: str) -> None:
        # Nobody would ever answer without one.
        require(processes > 0, "processes", processes, "1 or more")
        # Forked from a clean server that has imported `preload`: no threads or locks of ours come
        # along, and a replacement costs milliseconds instead of an import of torch.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([preload])
        _start_fork_server(context)
        # Nothing is ever sent. We alone hold the writing end, and the system closes it when we are
        # gone.
        watched, self._held = context.Pipe(duplex=False)
        self._asked: SimpleQueue[_Asked | None] = SimpleQueue()
        self._pulse = _Pulse()
        self._is_closed = False
        self._lock = threading.Lock()
        """Held while an item is put, or the pool closed: behind that nothing is taken any more."""
        self._workers = [_Worker(context, watched, limits, self._pulse) for _ in range(processes)]
        self._threads = [
            threading.Thread(target=w.serve, args=(self._asked,), daemon=True)
            for w in self._workers
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result | Failure]:
        """Start on an item. An exception of the function itself is the future's."""
        asked = _Asked(function, item)
        with self._lock:
            if self._is_closed:
                raise BrokenProcessPool("the pool was closed")
            self._asked.put(asked)
        return asked.future

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[Result | Failure]:
        """Apply `function` to each item, in order. An exception of `function` itself is raised."""
        for future in [self.submit(function, item) for item in items]:
            yield future.result()

    def close(self) -> None:
        """End the processes at once."""
        with self._lock:
            self._is_closed = True
            # Behind all items: each is still taken, and whoever waits for it is told.
            for _ in self._threads:
                self._asked.put(None)
        self._pulse.stop()
        for worker in self._workers:
            worker.close()
        for thread in self._threads:
            thread.join()


class _Asked:
    """An item to work on, and where its result goes."""

    def __init__(self, function: Callable[[Any], Any], item: Any) -> None:
        self.function = function
        self.item = item
        self.future: Future[Any] = Future()


class _Worker:
    """One process after the other, fed by one thread."""

    def __init__(
        self, context: ForkServerContext, watched: Connection, limits: Limits, pulse: _Pulse
    ) -> None:
        self._context = context
        self._watched = watched
        self._limits = limits
        self._pulse = pulse
        self._idle_deaths = 0
        self._closed = False
        with _OF_PROCESSES:
            self._start()

    def serve(self, asked: SimpleQueue[_Asked | None]) -> None:
        """Work on what is asked for, until there comes nothing."""
        while (task := asked.get()) is not None:
            if not task.future.set_running_or_notify_cancel():
                continue
            try:
                task.future.set_result(self._work_on(task))
            except BaseException as error:  # noqa: BLE001 (whoever waits for it gets it)
                task.future.set_exception(error)

    def close(self) -> None:
        """End the process; whoever waits for it gets a BrokenProcessPool."""
        with _OF_PROCESSES:
            self._closed = True
            self._process.kill()
            self._process.join()

    def _work_on(self, task: _Asked) -> Any:
        pauses = self._pulse.pauses  # before it starts: the machine may sleep right after that
        self._hand_over(task)
        try:
            if not self._pipe.poll(self._limits.timeout_s):
                return self._out_of_time(task, pauses)
            result, error, read = self._pipe.recv()
        except (EOFError, OSError):  # OSError: it died amid a message
            return _failure_of(self._replace())
        READING.add(read)
        if isinstance(error, MemoryError):
            limit = self._limits.memory_mb
            needed = "more memory than there is" if limit is None else f"more than {limit} MiB"
            return Failure("decoder-memory", f"needed {needed}")
        if error is not None:
            raise error
        return result

    def _hand_over(self, task: _Asked) -> None:
        """Have the process start on an item; one that died before that is no fault of the
        item's."""
        while True:
            with suppress(EOFError, OSError):  # it died before it took the item
                self._pipe.send((task.function, task.item))
                if self._pipe.poll(_UNREADY_S):
                    self._pipe.recv()
                    self._idle_deaths = 0
                    return
                self._process.kill()
            self._replace()
            self._idle_deaths += 1
            if self._idle_deaths > _MOST_IDLE_DEATHS:
                raise BrokenProcessPool("processes of the pool die before they start on anything")

    def _out_of_time(self, task: _Asked, pauses: int) -> Any:
        self._process.kill()
        self._replace()
        time.sleep(2 * _BEAT_S)  # whoever wakes up first may be the one that tells the time limit
        if self._pulse.pauses > pauses:
            return self._work_on(task)  # the machine slept, not the decoder
        return Failure("decoder-timeout", f"took longer than {self._limits.timeout_s} s")

    def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_serve, args=(theirs, self._watched, self._limits.memory_mb), daemon=True
        )
        self._process.start()
        theirs.close()  # the process has the only copy now, and the pipe ends with it

    def _replace(self) -> int | None:
        """Start another process for one that has ended; return the exit code of that one."""
        with _OF_PROCESSES:
            if self._closed:
                raise BrokenProcessPool("the pool was closed")
            self._process.join(_UNREAPED_S)
            self._process.kill()
            self._process.join()
            exit_code = self._process.exitcode
            self._pipe.close()
            self._start()
        return exit_code


def _failure_of(exit_code: int | None) -> Failure:
    if exit_code == -signal.SIGKILL:
        return Failure("decoder-killed", "its process was killed (signal 9)")
    return Failure("decoder-crash", f"its process ended with exit code {exit_code}")


class _Pulse:
    """Notices that this machine, or all our processes, stood still: time limits go by a clock that
    did not."""

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
            if now_s - last_s > _PAUSE_S:
                self.pauses += 1
            last_s = now_s


def _start_fork_server(context: ForkServerContext) -> None:
    """Start the process that all others are forked from, and wait for its imports. Ctrl-C must not
    reach it, nor processes that it still has to start when nobody waits for them any more: they
    would all say so."""
    resource_tracker.ensure_running()  # first, as it lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with _OF_PROCESSES:
        first = context.Process(target=_nothing)
        first.start()
        first.join()


def _nothing() -> None: ...


def _serve(pipe: Connection, watched: Connection, memory_mb: int | None) -> None:
    """Work on what comes through the pipe: say that an item has been started on, then send what
    came of it, and what was read for it."""
    _set_up(watched, memory_mb)
    while True:
        try:
            asked = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send(None)
        try:
            function, item = pickle.loads(asked)  # noqa: S301 (of our own parent)
            pipe.send((function(item), None, READING.lap()))
        except BaseException as error:  # noqa: BLE001 (whoever asked gets it)
            error.add_note(traceback.format_exc())
            pipe.send((None, _as_it_arrives(error), READING.lap()))


def _as_it_arrives(error: BaseException) -> BaseException:
    """Return an error, or where it cannot be pickled and read back one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
    except Exception:  # noqa: BLE001 (what a class does with its arguments has no end)
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _set_up(watched: Connection, memory_mb: int | None) -> None:
    """Prepare a process of the pool: it dies with whoever made the pool, uses one torch thread, and
    keeps to its memory limit."""
    _die_when_closed(watched)
    if torch := sys.modules.get("torch"):  # what does without it need not wait for it
        torch.set_num_threads(1)  # the pool is the parallelism; torch's own threads would fight it
    if memory_mb is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        limit = pages * resource.getpagesize() + memory_mb * (1 << 20)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _die_when_closed(watched: Connection) -> None:
    """Have the system end this process once the other end of a pipe is closed, whatever it is
    doing.

    A parent-death signal would not do: the parent is the fork server, which stays for as long as
    any of its children. Nor would a thread that waits, which gets no turn while a decoder hangs. A
    pipe whose writer goes sends SIGIO.
    """
    # Opened anew, since all processes of the pool share what came with the connection, and SIGIO
    # has one receiver.
    pipe = os.open(f"/proc/self/fd/{watched.fileno()}", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if watched.poll():
        os._exit(1)  # closed before we listened
