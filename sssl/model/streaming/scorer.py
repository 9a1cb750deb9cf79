"""Scoring on GPUs: threads read parts ahead of what the devices compute, in batches across parts
and members."""

from __future__ import annotations

import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sssl.model.ensemble import Model
from sssl.model.streaming.device import Device, Part, staging
from sssl.runtime.device import dtype_of

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Result = TypeVar("Result")

# On an H100 512 segments at a time gave 379,000 a second, 2,048 571,000 and 8,192 592,000
# (docs/log/2026-11-26-from-parquet-to-the-gpu.md).
GPU_BATCH = 2048
"""Segments per forward pass on a GPU."""
# An H100 with 16 cores got 305,000 to 316,000 segments a second from 8 and 322,000 from 12
# (docs/log/2026-11-27-forward-passes-recorded.md).
MOST_READERS = 12
_WRITERS = 4
TYPES = {"uint8": torch.uint8, "float16": torch.float16}
"""Of stored log-mels, by NumPy's name."""
# Turns of 0.1 ms gave no more than noise (docs/log/2026-11-27-what-a-gpu-waits-for.md).
_TURN_S = 5e-4


class Rows(NamedTuple):
    """What is read of a part: log-mels [N, mels, frames] as stored, the fold whose member scores
    each segment [N], -1 for all of them, and what the writer wants to know."""

    log_mel: NDArray[Any]
    folds: NDArray[np.int64]
    about: Any


@dataclass(frozen=True)
class StreamScorer:
    """Scores parts on devices, all of them at once.

    A row's posterior does not depend on who shares its batch: batches are all of one size, the last
    ones filled up.
    """

    model: Model
    devices: Sequence[str]
    views: int = 1
    batch: int = GPU_BATCH
    readers: int = 8
    dtype: torch.dtype | None = None
    """What the networks compute in; default: what is best on the device."""

    def score(
        self,
        items: Sequence[Item],
        read: Callable[[Item], Rows],
        write: Callable[[Item, Any, NDArray[np.float32]], Result],
    ) -> list[Result]:
        """Read items in threads, score their rows, hand the posteriors [N, C] of each to `write`,
        in other threads and as soon as they are there. Return what the writers do, in the order of
        items.

        A segment that the model fails on has a row of NaN.

        Raises:
            DeviceError: a device is full, and stays so.
        """
        written: dict[int, Future[Result]] = {}
        with ExitStack() as stack:
            stack.enter_context(_quick_turns())
            reading = stack.enter_context(ThreadPoolExecutor(self.readers))
            driving = stack.enter_context(ThreadPoolExecutor(len(self.devices)))
            writing = stack.enter_context(ThreadPoolExecutor(_WRITERS))

            def finish(part: Part) -> None:
                item = items[part.number]
                done = writing.submit(write, item, part.about, part.posteriors)
                written[part.number] = done

            def load(number: int) -> Part:
                rows = read(items[number])
                return self._load(number, rows)

            # A few more than there are readers, so that a part is ready when a device asks for one.
            parts = _Ahead(reading, load, range(len(items)), ahead=self.readers + 2)
            drives = []
            for name in self.devices:
                device = self._device(name)
                drives.append(driving.submit(device.drive, parts.take, finish))
            for drive in drives:
                drive.result()
            return [written[number].result() for number in range(len(items))]

    def _load(self, number: int, rows: Rows) -> Part:
        """Stage a part's rows by member, in memory from which a GPU takes them while it
        computes."""
        # A model of one member scores all folds.
        of_fold = rows.folds % self.model.spec.members
        members = np.where(rows.folds < 0, -1, of_fold)
        # Rows of one member side by side, so that its batches are slices of the part.
        order = np.argsort(members, kind="stable")
        dtype = TYPES[rows.log_mel.dtype.name]
        staged = staging(rows.log_mel.shape, pinned=self.devices[0] != "cpu", dtype=dtype)
        # In the default mode NumPy would take the rows into a buffer first.
        np.take(rows.log_mel, order, axis=0, out=staged.numpy(), mode="clip")
        shape = len(order), len(self.model.spec.classes)
        posteriors = np.full(shape, np.nan, np.float32)
        return Part(number, staged, members[order], order, posteriors, rows.about)

    def _device(self, name: str) -> Device:
        return Device(name, self.model, self.views, self.batch, self.dtype or dtype_of(name))


class _Ahead(Generic[Item, Loaded]):
    """Items loaded in threads, some ahead of those who take them."""

    def __init__(
        self,
        threads: ThreadPoolExecutor,
        load: Callable[[Item], Loaded],
        items: Iterable[Item],
        ahead: int,
    ) -> None:
        self._threads = threads
        self._load = load
        self._items = iter(items)
        self._ahead = ahead
        self._loading: deque[Future[Loaded]] = deque()
        self._lock = threading.Lock()

    def take(self) -> Loaded | None:
        """Return the next one, None when there are no more."""
        with self._lock:
            for item in itertools.islice(self._items, self._ahead - len(self._loading)):
                self._loading.append(self._threads.submit(self._load, item))
            next_one = self._loading.popleft() if self._loading else None
        # Outside the lock, so that other devices can take theirs meanwhile.
        return None if next_one is None else next_one.result()


@contextmanager
def _quick_turns() -> Iterator[None]:
    """Have Python's threads take turns more often: who launches work on a GPU must not wait 5 ms
    for each of it."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)
