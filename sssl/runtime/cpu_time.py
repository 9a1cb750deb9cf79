"""CPU time of this process and of those that it started, as it is written down with what it went
into."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import psutil


def tree_cpu_s() -> float:
    """Return the CPU seconds of this process and of its descendants, those that have ended
    included."""
    this = psutil.Process()
    total = 0.0
    for process in [this, *this.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            total += sum(
                process.cpu_times()[:4]
            )  # user, system, and both of children that were waited for
    return total


class CpuClock:
    """Hands out the CPU time of this process and its descendants, every second of it once,
    whichever thread asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told_s = 0.0
        self._next_look_s = 0.0

    def lap(self, now_and_then: bool = False) -> float:
        """Return the CPU seconds since the last lap, at first those since the process began.

        To look at all processes takes some milliseconds. Who only looks `now_and_then` is told 0,
        and a later lap has them, where looking would take more than a twentieth of the time.
        """
        with self._lock:
            began_s = time.monotonic()
            if now_and_then and began_s < self._next_look_s:
                return 0.0
            now_s = tree_cpu_s()
            self._next_look_s = time.monotonic() + 20 * (time.monotonic() - began_s)
            # A process that was killed and not waited for takes its time along.
            lap_s = max(0.0, now_s - self._told_s)
            self._told_s = now_s
            return lap_s


CLOCK = CpuClock()
"""Of this process, which works for one stage at a time: each writes down the time since the last
lap."""
