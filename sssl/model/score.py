"""Posteriors of a part's segments, and the counts by which a model is judged."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from schemas import Catalog, Score, arrow_schema
from sssl.arrays import Floats, inherited_indices
from sssl.model.augment import rolled
from sssl.model.ensemble import Model

_STREAMS = 2
"""Threads that a GPU is fed by, at least."""


@dataclass(frozen=True)
class ScoreConfig:
    """How segments are scored."""

    views: int = 1
    """Average the posterior over so many rotated views of a segment; each costs one more pass."""
    score_batch: int = 32
    """Segments a forward pass; on a CPU 8 to 32 are best, a GPU wants 512 and more."""
    average_members: bool = True
    """Score tracks that no member trained on (held out, unlabelled) by the mean of all members: better labels for new
    music, and as many passes over it as there are members."""


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


def scores_table(
    segments: pa.Table,
    probabilities: NDArray[np.float32],
    tracks: Sequence[Catalog],
    classes: Sequence[str],
    round: int,
    model_id: str,
) -> pa.Table:
    """Return the scores of a part, aligned with its segments; a posterior that is not finite is a row with a reason."""
    inherited = inherited_indices(segments, tracks, classes)
    bad = np.logical_not(np.isfinite(probabilities).all(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = -np.log(np.clip(probabilities[np.arange(len(inherited)), inherited], 1e-6, 1.0))
    return pa.table(
        {
            "track_id": segments["track_id"],
            "segment_index": segments["segment_index"],
            "round": np.full(len(segments), round, np.int32),
            "probabilities": pa.array(list(probabilities), pa.list_(pa.float32()), mask=bad),
            "loss": pa.array(loss, pa.float32(), mask=bad | (inherited < 0)),
            "reason": pa.array(["non-finite" if row else None for row in bad], pa.string()),
            "model_id": pa.array([model_id] * len(segments), pa.string()),
        },
        schema=arrow_schema(Score),
    )


def folds_of(track_ids: Sequence[str], tracks: Sequence[Catalog], config: ScoreConfig) -> NDArray[np.int64]:
    """Return for each segment [N] the fold whose member scores it, -1 where all do: no member trained on its track."""
    fold = {t.track_id: t.fold if t.split == "train" or not config.average_members else -1 for t in tracks}
    return np.array([fold[track_id] for track_id in track_ids], dtype=np.int64)


def score_counts(scores: pa.Table, tracks: Sequence[Catalog], classes: Sequence[str]) -> Counter[str]:
    """Count what a part's scores say about the model; sums over parts are meaningful.

    `confusion/<split>/<true>/<predicted>` counts labelled tracks by the peak of their mean posterior, `loss/<split>`
    sums the negative log of that mean posterior at the label.
    """
    counts: Counter[str] = Counter({"segments": len(scores), "non-finite": scores["probabilities"].null_count})
    posterior = {track_id: np.mean(rows, axis=0) for track_id, rows in by_track(scores).items()}
    for track in tracks:
        if track.label is None or track.track_id not in posterior:
            continue
        mean = posterior[track.track_id]
        counts[f"confusion/{track.split}/{track.label}/{classes[int(mean.argmax())]}"] += 1
        counts[f"loss/{track.split}"] += float(-np.log(max(mean[classes.index(track.label)], 1e-6)))  # type: ignore[assignment]
    return counts


def by_track(scores: pa.Table) -> dict[str, Floats]:
    """Group the finite posteriors of a scores table by track: [N, C] each, in the order of segments."""
    grouped: dict[str, list[list[float]]] = {}
    for track_id, row in zip(scores["track_id"].to_pylist(), scores["probabilities"].to_pylist(), strict=True):
        if row is not None:
            grouped.setdefault(track_id, []).append(row)
    return {track_id: np.array(rows) for track_id, rows in grouped.items()}


def device() -> str:
    """Return the device that this process scores and trains on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype_of(device: str) -> torch.dtype:
    """Return what networks compute in: bfloat16 on a GPU that has it, single precision on a CPU, whose results are the
    same on every machine that way."""
    return torch.bfloat16 if device == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0))


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
