"""Training of a model: one process per member, one checkpoint per epoch, all random numbers derived
from the seed."""

from __future__ import annotations

import fnmatch
import io
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from sssl.errors import DeviceError, TrainError
from sssl.model.ensemble import Model
from sssl.model.examples import Corpus
from sssl.model.shards.read import Shards
from sssl.model.together import Together, fits
from sssl.model.trainer import Progress, Trainer, Training
from sssl.runtime.device import lacks_memory
from sssl.runtime.distributed import ALONE, Ranks
from sssl.runtime.heap import keep_freed_memory
from sssl.runtime.process_pool import Failure, IsolatedPool, Limits
from sssl.store import seal
from sssl.store.folder import Store

_CHECKPOINT_S = 60.0
"""Seconds between checkpoints within an epoch, at least."""


class Epoch(NamedTuple):
    """One finished epoch of a member, 0-based, with its mean loss in nats and the CPU time it took;
    with patience also its mean cross-entropy on the fold that it leaves out."""

    member: int
    epoch: int
    loss: float
    segments: int
    cpu_s: float = 0.0
    left_out_loss: float | None = None


def train(
    training: Training, processes: int, on_epoch: Callable[[Epoch], None], ranks: Ranks = ALONE
) -> Model:
    """Train the members of a model, `processes` at a time with one torch thread each, going on from
    their checkpoints.

    One thread per member is faster than all threads on one member, does not stall on a busy
    machine, and gives the same weights however many cores there are. Epochs that an earlier process
    finished are reported like new ones.

    Raises:
        TrainError: no row to train on, or a process died.
    """
    reported: set[tuple[int, int]] = set()

    def report() -> None:
        for epoch in _finished_epochs(training):
            if (epoch.member, epoch.epoch) not in reported:
                reported.add((epoch.member, epoch.epoch))
                on_epoch(epoch)

    ranks.tell(training)
    try:
        train_share(training, processes, ranks, report)
    finally:
        ranks.wait()  # the others do, whatever happened here
    report()
    return Model(training.spec, [_member(training, k) for k in range(training.spec.members)])


def train_share(
    training: Training, processes: int, ranks: Ranks, report: Callable[[], None]
) -> None:
    """Train the members that fall to this process; `report` is called now and then.

    Raises:
        DeviceError: its GPU is full.
        TrainError: no row to train on, or a process died.
    """
    mine = replace(training, device=ranks.device())
    members = ranks.share(training.spec.members)
    pool = IsolatedPool(
        processes, Limits(timeout_s=None, memory_mb=None), preload="sssl.model.train"
    )
    try:
        if mine.device == "cpu":
            running = [pool.submit(partial(train_member, mine), k) for k in members]
        else:
            # In one process: a step of all members is one launch.
            running = [pool.submit(partial(train_together, mine), members)]
        # Progress is told while they run, from the histories that they write.
        while wait(running, timeout=0.5).not_done:
            report()
        for future in running:
            try:
                outcome = future.result()
            except RuntimeError as error:
                if not lacks_memory(error):
                    raise
                said = str(error).splitlines()[0]
                raise DeviceError(
                    f"{mine.device} has not enough free memory to train on: {said}"
                ) from None
            if isinstance(outcome, Failure):
                raise TrainError(f"a training process died: {outcome.detail}")
    finally:
        pool.close()


def train_member(training: Training, member: int) -> None:
    """Train one member up to its last epoch, with one checkpoint per epoch, in long ones more."""
    clock = _Clock()
    course = _Course(training, member)
    if course.done:
        return
    keep_freed_memory()
    course.start(training.corpus())
    while not course.done:
        course.advance(course.trainer.run_window(course.epoch, course.progress), clock.lap)


def train_together(training: Training, members: Sequence[int]) -> None:
    """Train members side by side on a device that has room for all rows, or for a window of them;
    else one after the other."""
    clock = _Clock()
    courses = [_Course(training, member) for member in members]
    if all(course.done for course in courses):
        return
    corpus = training.corpus()
    if isinstance(corpus, Corpus) and not fits(corpus, training.device):
        for member in members:
            train_member(training, member)
        return
    for course in courses:
        course.start(corpus)
    together = Together([course.trainer for course in courses], corpus, training.device)
    while under_way := [course for course in courses if not course.done]:
        # After a kill some may be behind.
        place = min(course.place for course in under_way)
        now = [course for course in under_way if course.place == place]
        trainers = [course.trainer for course in now]
        progress = [course.progress for course in now]
        done = together.run_window(trainers, now[0].epoch, progress)
        # One launch does a step of all members, so their times cannot be told apart: each gets an
        # equal share.
        shared = clock.lap() / len(now)
        for course, reached in zip(now, done, strict=True):
            course.advance(reached, lambda: shared)  # noqa: B023


class _Clock:
    """CPU time of this process."""

    def __init__(self) -> None:
        self._told_s = time.process_time()

    def lap(self) -> float:
        """Return the seconds since the last lap."""
        now_s = time.process_time()
        lap_s, self._told_s = now_s - self._told_s, now_s
        return lap_s


class _Course:
    """How far a member's training is: the epochs that are done, how far the next one is, the
    weights that become the member, and, once it goes on, its trainer."""

    trainer: Trainer

    def __init__(self, training: Training, member: int) -> None:
        self._training = training
        self._member = member
        # Read before anything else: a training that is done needs no rows.
        found = _read_checkpoint(training, member) or {"history": [], "weights": {}}
        self._state = found.get("state")
        self.history = [Epoch(*done) for done in found["history"]]
        self.progress = Progress(*found.get("progress", ()))
        self._best = dict(found["weights"])
        self._cpu_s = 0.0
        self._written_at = time.monotonic()
        # Written again: a kill may have come between checkpoint and history.
        _write_history(training, member, self.history)

    def start(self, corpus: Corpus | Shards) -> None:
        """Make the trainer, as it was when the checkpoint was written."""
        self.trainer = Trainer(self._training, self._member, corpus)
        if self._state is not None:
            self.trainer.load_state_dict(self._state)

    @property
    def epoch(self) -> int:
        """The epoch under way."""
        return len(self.history)

    @property
    def place(self) -> tuple[int, int]:
        """The epoch under way and its windows that are done."""
        return self.epoch, self.progress.windows

    @property
    def done(self) -> bool:
        """Whether there is no epoch left."""
        return self.epoch >= self._training.epochs or stops_early(
            self.history, self._training.config.patience
        )

    def advance(self, reached: Progress, cpu_s: Callable[[], float]) -> None:
        """Note that a window is done, and write a checkpoint: after an epoch, and now and then."""
        self.progress = reached
        if reached.windows >= self.trainer.corpus.windows(self.epoch):
            self._finish_epoch(cpu_s)
            return
        self._cpu_s += cpu_s()
        if time.monotonic() - self._written_at >= _CHECKPOINT_S:
            self._write_checkpoint()

    def _finish_epoch(self, cpu_s: Callable[[], float]) -> None:
        _, total, segments = self.progress
        if not math.isfinite(total):
            raise TrainError(
                f"the loss of member {self._member} in epoch {self.epoch} is {total}: its weights"
                f" are lost; try again with a lower learning_rate than"
                f" {self._training.config.learning_rate}"
            )
        left_out_loss = self.trainer.left_out_loss() if self._training.config.patience else None
        spent_s = self._cpu_s + cpu_s()
        done = Epoch(self._member, self.epoch, total / segments, segments, spent_s, left_out_loss)
        self.history.append(done)
        self.progress = Progress()
        self._cpu_s = 0.0
        if _best(self.history) is self.history[-1]:
            self._best = self.trainer.weights()
        # The history last, so that it never lists an epoch whose checkpoint is missing.
        self._write_checkpoint()
        _write_history(self._training, self._member, self.history)

    def _write_checkpoint(self) -> None:
        state: dict[str, Any] = {"history": list(map(tuple, self.history))}
        state["state"] = self.trainer.state_dict()
        if self.progress.windows:
            state["progress"] = tuple(self.progress)
        _write_checkpoint(self._training, self._member, {**state, "weights": self._best})
        self._written_at = time.monotonic()


def stops_early(history: Sequence[Epoch], patience: int | None) -> bool:
    """Whether the left-out loss has not fallen for `patience` epochs."""
    return (
        patience is not None
        and bool(history)
        and len(history) - 1 - _best(history).epoch >= patience
    )


def _best(history: Sequence[Epoch]) -> Epoch:
    """Return the epoch whose weights become the member: the last one, or that of the lowest
    left-out loss."""
    # In reverse, so that of equally good epochs (without patience all are) the last one counts.
    return min(reversed(history), key=_left_out_loss)


def _left_out_loss(done: Epoch) -> float:
    loss = 0.0 if done.left_out_loss is None else done.left_out_loss
    # NaN is neither more nor less than anything, so `min` would go by the order of epochs.
    return math.inf if math.isnan(loss) else loss


def cpu_seconds(store: Store, folder: str) -> float:
    """Return the CPU time that the members of a model took to train, all their processes
    together."""
    names = fnmatch.filter(store.names(folder), "member*.json")
    return sum(done.cpu_s for name in names for done in _read_history(store, f"{folder}/{name}"))


def _checkpoint_path(training: Training, member: int) -> str:
    return f"{training.folder}/member{member}.pt"


def _write_checkpoint(training: Training, member: int, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path = _checkpoint_path(training, member)
    training.store.write_bytes(path, seal.sealed(buffer.getvalue()))


def _read_checkpoint(training: Training, member: int) -> dict[str, Any] | None:
    """Return the last checkpoint of a member, None if there is none, or none as it was written: it
    starts anew."""
    path = _checkpoint_path(training, member)
    if not training.store.exists(path):
        return None
    content = seal.opened(training.store.read_bytes(path))
    if content is None:
        return None
    return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def _history_path(training: Training, member: int) -> str:
    return f"{training.folder}/member{member}.json"


def _write_history(training: Training, member: int, history: list[Epoch]) -> None:
    # Beside the checkpoint, so that whoever shows progress need not read weights.
    training.store.write_json(_history_path(training, member), {"epochs": history})


def _read_history(store: Store, path: str) -> list[Epoch]:
    """Return the epochs that a history tells of, none if there is none, or none that can be
    read."""
    found = store.read_json_if_whole(path) or []
    # A list alone was written by an earlier version.
    epochs = found["epochs"] if isinstance(found, dict) else found
    return [Epoch(*done) for done in epochs]


def _finished_epochs(training: Training) -> list[Epoch]:
    """List the epochs that members have finished, in the order of epochs."""
    found = []
    for member in range(training.spec.members):
        found += _read_history(training.store, _history_path(training, member))
    return sorted(found, key=lambda done: (done.epoch, done.member))


def _member(training: Training, member: int) -> nn.Module:
    """Build a member from its last checkpoint."""
    checkpoint = _read_checkpoint(training, member)
    assert checkpoint is not None
    network = training.spec.build()
    network.load_state_dict(checkpoint["weights"])
    return network.eval()
