"""A GPU, or the CPU in tests, that scores rows of many parts in batches of one size."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sssl.errors import DeviceError
from sssl.model.augment import rolled
from sssl.model.ensemble import Model
from sssl.model.folded import folded
from sssl.model.networks import in_db
from sssl.model.streaming.recorded import Recorded
from sssl.runtime.device import lacks_memory

LOGGER = logging.getLogger(__name__)
_BATCHES_AHEAD = 4
"""Batches that a device is given before the first one's posteriors are waited for."""
_PASSES_BEFORE_RECORDING = 2
"""Passes of a member that are launched piece by piece first, so that a few parts are not worth a
recording."""
_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""How long to wait for others to leave a full GPU before trying again, time after time."""


@dataclass
class Part:
    """A part under way: log-mels [N, mels, frames] as stored and members [N], both in the order of
    members, `order` [N] says where their rows come from, posteriors [N, C] in the order of the
    part."""

    number: int
    log_mel: Tensor
    members: NDArray[np.int64]
    order: NDArray[np.int64]
    posteriors: NDArray[np.float32]
    about: Any
    missing: int = 0


class _Piece(NamedTuple):
    """Rows of a part on a device, `start` is the place of the first in the order of members."""

    log_mel: Tensor
    part: Part
    start: int


@dataclass
class _Lane:
    """Rows that wait until there is a batch for a member."""

    pieces: deque[_Piece] = field(default_factory=deque)
    rows: int = 0

    def add(self, piece: _Piece) -> None:
        self.pieces.append(piece)
        self.rows += len(piece.log_mel)

    def take(self, rows: int) -> list[_Piece]:
        """Take so many rows, or all there are."""
        taken = []
        while rows and self.pieces:
            log_mel, part, start = self.pieces.popleft()
            taken.append(_Piece(log_mel[:rows], part, start))
            if len(log_mel) > rows:
                self.pieces.appendleft(_Piece(log_mel[rows:], part, start + rows))
            rows -= len(taken[-1].log_mel)
            self.rows -= len(taken[-1].log_mel)
        return taken


class _Computed(NamedTuple):
    """Posteriors [B, C] on their way to host memory, there once the event has passed."""

    posteriors: Tensor
    arrived: torch.cuda.Event | None
    pieces: list[_Piece]


class Device:
    """A device with the model on it, and a stream that copies while another computes."""

    def __init__(self, name: str, model: Model, views: int, batch: int, dtype: torch.dtype) -> None:
        self._name = name
        self._model = model
        self._views = views
        self._dtype = dtype
        self._at_first = batch
        self._batch = batch
        self._waits = iter(_WAITS_S)
        self._on_gpu = name != "cpu"
        self._networks: list[nn.Module] = []
        self._passes: Counter[int] = Counter()
        self._recorded: dict[int, Recorded] = {}
        self._can_record = self._on_gpu

    def drive(self, take: Callable[[], Part | None], finish: Callable[[Part], None]) -> None:
        """Score parts until there are no more. Where memory ends, what is not finished is scored
        again in smaller batches."""
        unfinished: dict[int, Part] = {}
        while (full := self._try(unfinished, take, finish)) is not None:
            self._make_room(full)

    def _try(
        self,
        unfinished: dict[int, Part],
        take: Callable[[], Part | None],
        finish: Callable[[Part], None],
    ) -> str | None:
        """Return None once all is done, what the device said when it was full."""
        try:
            with ExitStack() as stack:
                if self._on_gpu:
                    stack.enter_context(torch.cuda.device(self._name))
                self._score(unfinished, take, finish)
        except Exception as error:
            if not lacks_memory(error):
                raise
            return str(error).splitlines()[0]  # with the error itself go its tensors
        return None

    def _make_room(self, said: str) -> None:
        self._can_record = False
        if self._recorded:
            # They hold memory for a batch each, without which this one may fit.
            self._recorded.clear()
            LOGGER.warning("%s is full: launching passes piece by piece (%s)", self._name, said)
        elif self._batch > 1:
            self._batch //= 2
            LOGGER.warning(
                "%s is full: going on with batches of %d segments (%s)",
                self._name,
                self._batch,
                said,
            )
        else:
            # Other processes may free memory, so even a single segment that does not fit is tried
            # again.
            wait_s = next(self._waits, None)
            if wait_s is None:
                waited_s = sum(_WAITS_S)
                raise DeviceError(
                    f"{self._name} has no memory for a single segment, also after {waited_s:.0f} s:"
                    f" {said}"
                )
            LOGGER.warning("%s is full: trying again in %.0f s (%s)", self._name, wait_s, said)
            time.sleep(wait_s)
            self._batch = self._at_first
        if self._on_gpu:
            torch.cuda.empty_cache()

    def _score(
        self,
        unfinished: dict[int, Part],
        take: Callable[[], Part | None],
        finish: Callable[[Part], None],
    ) -> None:
        lanes: dict[int, _Lane] = defaultdict(_Lane)
        computed: deque[_Computed] = deque()
        self._load_networks()
        copying = torch.cuda.Stream() if self._on_gpu else None

        # Results are collected some batches later, so that the device always has work.
        def collect(at_most: int) -> None:
            while len(computed) > at_most or (computed and _has_arrived(computed[0])):
                for part in _keep(computed.popleft()):
                    finish(unfinished.pop(part.number))

        # First the parts that were under way when memory ran out, with all of their rows again.
        for part in itertools.chain(list(unfinished.values()), iter(take, None)):
            unfinished[part.number] = part
            part.missing = len(part.order)
            if not part.missing:
                finish(unfinished.pop(part.number))
            for piece, member in self._pieces(part, copying):
                lanes[member].add(piece)
                while lanes[member].rows >= self._batch:
                    computed.append(self._compute(member, lanes[member].take(self._batch)))
                    collect(_BATCHES_AHEAD)
        for member, lane in sorted(lanes.items()):
            if lane.rows:
                computed.append(self._compute(member, lane.take(self._batch)))
        collect(0)

    def _load_networks(self) -> None:
        if not self._networks:
            networks = []
            for member in self._model.members:
                network = folded(member) if self._on_gpu else member
                networks.append(network.to(self._name).eval())
            # Assigned at once: if memory runs out before, all are loaded again.
            self._networks = networks
        if self._on_gpu and self._dtype == torch.float32:
            # TF32 would be a half precision under another name.
            torch.backends.cudnn.allow_tf32 = False

    def _pieces(
        self, part: Part, copying: torch.cuda.Stream | None
    ) -> Iterator[tuple[_Piece, int]]:
        """Copy a part to the device, a batch at a time, and split it by member."""
        for start in range(0, len(part.order), self._batch):
            end = start + self._batch
            log_mel = part.log_mel[start:end]
            if copying is not None:
                computing = torch.cuda.current_stream()
                with torch.cuda.stream(copying):
                    log_mel = log_mel.to(self._name, non_blocking=True)
                computing.wait_stream(copying)
                # Or its memory would be given away while it is read.
                log_mel.record_stream(computing)
            members, firsts, counts = np.unique(
                part.members[start:end], return_index=True, return_counts=True
            )
            for member, at, count in zip(members, firsts, counts, strict=True):
                rows = log_mel[at : at + count]
                yield _Piece(rows, part, start + int(at)), int(member)

    def _compute(self, member: int, pieces: list[_Piece]) -> _Computed:
        rows = [piece.log_mel for piece in pieces]
        used = sum(map(len, rows))
        # Filled up: in a batch of another size the last digits of a posterior may differ.
        if used < self._batch:
            rows.append(rows[0].new_zeros(self._batch - used, *rows[0].shape[1:]))
        posteriors = self._pass(member, rows, used)
        if not self._on_gpu:
            return _Computed(posteriors, None, pieces)
        arriving = staging(posteriors.shape, pinned=True, dtype=torch.float32)
        arriving.copy_(posteriors, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return _Computed(arriving, arrived, pieces)

    def _pass(self, member: int, rows: Sequence[Tensor], used: int) -> Tensor:
        """Return the posteriors [B, C] of a batch in pieces, of which the first `used` rows count,
        valid until the next pass."""
        if member in self._recorded:
            return self._recorded[member](rows)
        networks = self._networks if member < 0 else [self._networks[member]]
        batch = torch.cat(list(rows))
        posteriors = self._posteriors(networks, batch, used)
        self._passes[member] += 1
        if self._can_record and self._passes[member] == _PASSES_BEFORE_RECORDING:
            self._record(member, networks, batch)
        return posteriors

    def _record(self, member: int, networks: Sequence[nn.Module], batch: Tensor) -> None:
        try:
            self._recorded[member] = Recorded(partial(self._forward, networks), batch)
            return
        except Exception as error:  # noqa: BLE001 (what networks raise has no end)
            # Without a recording it only takes longer, also where its memory is what lacks.
            self._can_record = False
            LOGGER.warning("a pass cannot be recorded, so it is launched piece by piece: %s", error)
        # Outside, where the error holds nothing any more.
        torch.cuda.empty_cache()

    def _posteriors(self, networks: Sequence[nn.Module], log_mel: Tensor, used: int) -> Tensor:
        """Return the posteriors [B, C] of a batch of which the first `used` rows count; a row that
        the model fails on is NaN, a batch of such rows the model's failure."""
        try:
            return self._forward(networks, log_mel)
        except Exception as error:
            if lacks_memory(error):
                raise
        found, failures = self._apart(networks, log_mel[:used])
        if len(failures) == used:
            raise failures[0]
        return found

    def _apart(
        self, networks: Sequence[nn.Module], log_mel: Tensor
    ) -> tuple[Tensor, list[Exception]]:
        """Compute rows in halves until those that fail are alone."""
        try:
            return self._forward(networks, log_mel), []
        except Exception as error:
            if lacks_memory(error):
                raise
            if len(log_mel) == 1:
                shape = 1, len(self._model.spec.classes)
                return log_mel.new_full(shape, np.nan, dtype=torch.float32), [error]
        first, second = log_mel.tensor_split(2)
        first_found, first_failed = self._apart(networks, first)
        second_found, second_failed = self._apart(networks, second)
        return torch.cat([first_found, second_found]), first_failed + second_failed

    @torch.inference_mode()
    def _forward(self, networks: Sequence[nn.Module], log_mel: Tensor) -> Tensor:
        x = in_db(log_mel)
        is_reduced = self._dtype != torch.float32
        logits = []
        with torch.autocast(x.device.type, self._dtype, enabled=is_reduced):
            for network in networks:
                logits += [network(rolled(x, view, self._views)) for view in range(self._views)]
        # Posteriors and their mean in single precision, whatever the networks compute in.
        by_pass = [each.float().softmax(dim=1) for each in logits]
        return torch.stack(by_pass).mean(dim=0)


def staging(shape: Sequence[int], pinned: bool, dtype: torch.dtype) -> Tensor:
    """Return host memory, pinned if it can be had: PyTorch keeps it for the next ones, and knows
    when copies end."""
    try:
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=pinned)
    except RuntimeError as error:
        if not pinned or not lacks_memory(error):
            raise
        return torch.empty(tuple(shape), dtype=dtype)


def _has_arrived(computed: _Computed) -> bool:
    return computed.arrived is None or computed.arrived.query()


def _keep(computed: _Computed) -> Iterator[Part]:
    """Write posteriors where they belong; yield the parts that are finished by this."""
    if computed.arrived is not None:
        computed.arrived.synchronize()
    found = computed.posteriors.numpy()
    done = 0
    for log_mel, part, start in computed.pieces:
        rows = part.order[start : start + len(log_mel)]
        part.posteriors[rows] = found[done : done + len(rows)]
        done += len(rows)
        part.missing -= len(rows)
        if not part.missing:
            yield part
