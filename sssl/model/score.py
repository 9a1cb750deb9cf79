"""Posteriors of a part's segments, and the counts by which a model is judged."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from sssl.model.augment import rolled
from sssl.model.ensemble import Model
from sssl.model.settings import ScoreConfig

_STREAMS = 2
"""Threads that a GPU is fed by, at least."""


@dataclass
class Room:
    """How many segments a forward pass may have: fewer for good once the device ran out of memory."""

    segments: int

    def shrink(self, tried: int) -> None:
        self.segments = min(self.segments, max(1, tried // 2))


def posteriors(
    model: Model,
    log_mel: NDArray[np.float16],
    folds: NDArray[np.int64],
    config: ScoreConfig,
    device: str,
    threads: int,
    room: Room | None = None,
    dtype: torch.dtype | None = None,
) -> NDArray[np.float32]:
    """Return the posteriors [N, C] of log-mel segments [N, mels, frames], each by the member for its track's fold; by
    the mean of all members where the fold is -1.

    Batches run on `threads` Python threads with one torch thread each: the numbers do not depend on how many there
    are, as they would if torch split a sum. A segment that the model fails on is a row of NaN; a batch without any
    other is the model's failure, and raises. `room` is kept by the caller from one call to the next; `dtype` is what
    the networks compute in, by default what is best on the device.

    On a GPU each thread has a stream, so that one copies its batch while another computes.
    """
    found = np.full((len(log_mel), len(model.spec.classes)), np.nan, np.float32)
    room, dtype = room or Room(config.score_batch), dtype or dtype_of(device)
    batches = list(_batches(np.where(folds < 0, -1, folds % model.spec.members), room.segments))

    def forward(members: Sequence[torch.nn.Module], rows: NDArray[np.int64]) -> None:
        x = _on_device(log_mel[rows], device)
        found[rows] = np.mean([_forward(m, x, config.views, dtype) for m in members], axis=0)

    def run(batch: tuple[int, NDArray[np.int64]]) -> None:
        member, rows = batch
        members = model.members if member < 0 else [model.members[member]]
        failures = _in_pieces(partial(forward, members), rows, room)
        if len(failures) == len(rows):
            raise failures[0]

    threads = max(threads, _STREAMS) if device == "cuda" else threads
    with ThreadPoolExecutor(threads, initializer=_set_up, initargs=(device, itertools.count())) as pool:
        list(pool.map(run, batches))
    return found


def device() -> str:
    """Return the device that this process scores and trains on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype_of(device: str) -> torch.dtype:
    """Return what networks compute in: bfloat16 on a GPU that has it, single precision on a CPU, whose results are the
    same on every machine that way."""
    return torch.bfloat16 if device == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def _batches(members: NDArray[np.int64], size: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield (member, rows) in batches of rows that the same member scores, or all of them (-1)."""
    for member in np.unique(members):
        rows = np.flatnonzero(members == member)
        for start in range(0, len(rows), size):
            yield int(member), rows[start : start + size]


def _in_pieces(forward: Callable[[NDArray[np.int64]], None], rows: NDArray[np.int64], room: Room) -> list[Exception]:
    """Run a batch, halved where it does not fit or fails, down to single segments; return the failures of those."""
    if len(rows) > room.segments:
        return _in_halves(forward, rows, room)
    try:
        forward(rows)
    except torch.OutOfMemoryError as error:
        if len(rows) == 1:
            raise error
        room.shrink(len(rows))
    except Exception as error:  # noqa: BLE001
        # Which one it is shows only when it is alone.
        if len(rows) == 1:
            return [error]
    else:
        return []
    return _in_halves(forward, rows, room)


def _in_halves(forward: Callable[[NDArray[np.int64]], None], rows: NDArray[np.int64], room: Room) -> list[Exception]:
    return [failure for half in np.array_split(rows, 2) for failure in _in_pieces(forward, half, room)]


def _set_up(device: str, numbers: Iterator[int]) -> None:
    """Prepare a thread: one torch thread, and on a GPU a stream of its own, the same from call to call."""
    torch.set_num_threads(1)
    if device == "cuda":
        stream = _stream(next(numbers))
        stream.wait_stream(torch.cuda.default_stream())  # the weights may still be on their way
        torch.cuda.set_stream(stream)


@cache
def _stream(number: int) -> torch.cuda.Stream:
    del number  # what tells one from another
    return torch.cuda.Stream()


def _on_device(log_mel: NDArray[np.float16], device: str) -> torch.Tensor:
    """Copy a batch, in half precision and from pinned memory where that lets it happen beside other work."""
    batch = torch.from_numpy(log_mel)
    if device == "cuda":
        batch = batch.pin_memory()
    return batch.to(device, non_blocking=True).float()


@torch.inference_mode()
def _forward(member: torch.nn.Module, x: torch.Tensor, views: int, dtype: torch.dtype) -> NDArray[np.float32]:
    with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
        logits = [member(rolled(x, v, views)) for v in range(views)]
    mean = torch.stack([view.float().softmax(dim=1) for view in logits]).mean(dim=0)
    return np.asarray(mean.cpu().numpy())
