"""Posteriors of a part's segments, and the counts by which a model is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sssl.model.augment import rolled
from sssl.model.ensemble import Model
from sssl.model.networks import in_db
from sssl.model.settings import ScoreConfig


def posteriors(
    model: Model,
    log_mel: NDArray[Any],
    folds: NDArray[np.int64],
    config: ScoreConfig,
    threads: int,
) -> NDArray[np.float32]:
    """Return the posteriors [N, C] of stored log-mels [N, mels, frames], each by the member for
    its track's fold; by the mean of all members where the fold is -1. Computed on the CPU;
    `sssl.model.streaming` has GPUs.

    Batches run on `threads` Python threads with one torch thread each: the numbers do not depend on
    how many there are, as they would if torch split a sum. A segment that the model fails on is a
    row of NaN; a batch without any other is the model's failure, and raises.
    """
    classes = len(model.spec.classes)
    found = np.full((len(log_mel), classes), np.nan, np.float32)
    of_fold = folds % model.spec.members  # a model of one member scores all folds
    member_of = np.where(folds < 0, -1, of_fold)
    batches = list(_batches(member_of, config.score_batch))
    networks = model.folded_members

    def forward(members: Sequence[torch.nn.Module], rows: NDArray[np.int64]) -> None:
        stored = torch.from_numpy(log_mel[rows])
        x = in_db(stored)
        by_member = [_forward(member, x, config.views) for member in members]
        found[rows] = np.mean(by_member, axis=0)

    def run(batch: tuple[int, NDArray[np.int64]]) -> None:
        member, rows = batch
        members: Sequence[torch.nn.Module] = networks
        if member >= 0:
            members = [networks[member]]
        failures = _in_pieces(partial(forward, members), rows)
        if len(failures) == len(rows):
            raise failures[0]

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(run, batches))
    return found


def _batches(members: NDArray[np.int64], size: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield (member, rows) in batches of rows that the same member scores, or all of them (-1)."""
    for member in np.unique(members):
        rows = np.flatnonzero(members == member)
        for start in range(0, len(rows), size):
            own = rows[start : start + size]
            yield int(member), own


def _in_pieces(
    forward: Callable[[NDArray[np.int64]], None], rows: NDArray[np.int64]
) -> list[Exception]:
    """Run a batch, in halves where it fails, down to single segments; return the failures of
    those."""
    try:
        forward(rows)
    except Exception as error:  # noqa: BLE001
        # Which one it is shows only when it is alone.
        if len(rows) == 1:
            return [error]
    else:
        return []
    first, second = np.array_split(rows, 2)
    return _in_pieces(forward, first) + _in_pieces(forward, second)


@torch.inference_mode()
def _forward(member: torch.nn.Module, x: torch.Tensor, views: int) -> NDArray[np.float32]:
    of_views = []
    for number in range(views):
        logits = member(rolled(x, number, views))
        of_views.append(logits.softmax(dim=1))
    mean = torch.stack(of_views).mean(dim=0)
    return np.asarray(mean.numpy())
