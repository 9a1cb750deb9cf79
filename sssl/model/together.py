"""Members that train side by side on a GPU. Rows lie there from the start, what is random is drawn
before an epoch, and a step of all members is one launch: the networks are so small that a GPU would
wait for Python most of the time."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sssl.model import losses
from sssl.model.examples import Corpus, Examples
from sssl.model.shards.read import Shards, Window
from sssl.model.trainer import CLIP_NORM, Draws, Progress, Trainer, newest_share
from sssl.runtime.device import lacks_memory

LOGGER = logging.getLogger(__name__)
_LARGEST_SHARE = 0.4
"""Of a GPU's free memory that the rows may take: while they are put together they are there
twice."""
_EAGER_STEPS = 3
"""Steps before the first one is recorded: libraries and the optimizer set themselves up in them."""


class _Plan(NamedTuple):
    """The steps of a member's epoch: rows [S, B], `_Numbers` [S, 7], shifts [S, 3], order of bags
    [S, G]; how many rows each step has."""

    rows: Tensor
    numbers: Tensor
    shifts: Tensor
    order: Tensor
    sizes: list[int]


class _Numbers(NamedTuple):
    """What a step needs to know: AdamW's factors at its learning rate and betas, the ramp of the
    noisy segments' loss, the share of an example in mixup, and the share of the newest weights in
    their average."""

    decay: Any
    momentum: Any
    step_size: Any
    scale: Any
    ramp: Any
    share: Any
    newest: Any


def fits(corpus: Corpus, device: str) -> bool:
    """Whether a device has room for all rows of a corpus."""
    if device == "cpu":
        return True
    if not corpus.parts:
        return True
    free, _ = torch.cuda.mem_get_info(device)
    first = corpus.load(corpus.parts[0])
    row_bytes = first.log_mel[0].nbytes if len(first.weight) else 0
    rows = corpus.bags(None, 1)  # bags of one row each
    return rows * row_bytes <= _LARGEST_SHARE * free


class Together:
    """Members on a device, with the rows that they share: all there are, or a window of them."""

    def __init__(self, trainers: Sequence[Trainer], corpus: Corpus | Shards, device: str) -> None:
        self._corpus = corpus
        self._device = device
        self._window: Corpus | Window | None = None
        self._numbered: Corpus | Window
        self._lanes = {trainer.member: _Lane(trainer) for trainer in trainers}
        self._graphs: dict[tuple[int, ...], torch.cuda.CUDAGraph] = {}
        self._eager_steps = 0
        self._can_record = device != "cpu"

    def run_window(
        self, trainers: Sequence[Trainer], epoch: int, done: Sequence[Progress]
    ) -> list[Progress]:
        """Train the next window of an epoch of some of the members; return how far each is then."""
        number = done[0].windows
        numbered = self._load(self._corpus.window(epoch, number))
        lanes = [self._lanes[trainer.member] for trainer in trainers]
        sizes = []
        for lane, before in zip(lanes, done, strict=True):
            own = lane.start_window(epoch, before, numbered)
            sizes.append(own)
        # Of what is left to chance within a step: masks and dropout.
        torch.manual_seed(trainers[0].window_seed(epoch, number))
        for step in range(max(map(len, sizes))):
            self._step_of_all(lanes, sizes, step)
        progress = []
        for lane, own, before in zip(lanes, sizes, done, strict=True):
            progress.append(lane.end_window(own, before))
        return progress

    def _step_of_all(
        self, lanes: Sequence[_Lane], sizes: Sequence[Sequence[int]], step: int
    ) -> None:
        """Take step number `step` with each lane that has so many; a member's last batch may be
        smaller."""
        whole = []
        for lane, own in zip(lanes, sizes, strict=True):
            if step >= len(own):
                continue
            if own[step] == lane.batch_size:
                whole.append(lane)
            else:
                lane.step(own[step])
        if len(whole) == len(lanes):
            self._step(whole)
        else:
            # One by one: a recorded step is for one set of lanes, and the set changes here.
            for lane in whole:
                self._step([lane])

    def _load(self, window: Corpus | Window) -> Corpus | Window:
        """Bring the rows of a window to the device; return the window with their numbers."""
        if window is not self._window:
            rows, self._numbered = window.numbered()
            self._window = window
            self._put(rows)
        return self._numbered

    def _put(self, rows: Examples) -> None:
        """Put rows where those of the window before were, which recorded steps know, if there is
        room; a first window gets some more than it needs, for those that come."""
        lanes = list(self._lanes.values())
        held = lanes[0].rows
        is_all = self._window is self._corpus
        if held is None or len(held.weight) < len(rows.weight):
            self._graphs.clear()
            held = rows.to(self._device) if is_all else self._room(rows)
            for lane in lanes:
                lane.rows = held
        if not is_all:
            for there, here in zip(held, rows, strict=True):
                there[: len(here)].copy_(here)

    def _room(self, rows: Examples) -> Examples:
        count = len(rows.weight) * 9 // 8  # an eighth more than this window needs
        columns = []
        for column in rows:
            row_shape = column.shape[1:]
            columns.append(column.new_zeros(count, *row_shape, device=self._device))
        return Examples(*columns)

    def _step(self, lanes: Sequence[_Lane]) -> None:
        """Take a step of a whole batch with each of the lanes."""
        members = tuple(lane.trainer.member for lane in lanes)
        is_warm = self._eager_steps >= _EAGER_STEPS
        if self._can_record and is_warm and members not in self._graphs:
            self._try_to_record(members, lanes)
        if members in self._graphs:
            self._graphs[members].replay()
            return
        self._eager_steps += 1
        for lane in lanes:
            lane.step(lane.batch_size)

    def _try_to_record(self, members: tuple[int, ...], lanes: Sequence[_Lane]) -> None:
        """Record a step of some lanes; if their network does not allow it, try no others."""
        try:
            self._graphs[members] = _record(lanes)
        except RuntimeError as error:
            if lacks_memory(error):
                raise
            LOGGER.warning(
                "a step of this network cannot be recorded, so it is launched piece by piece: %s",
                error,
            )
            self._can_record = False


def _record(lanes: Sequence[_Lane]) -> torch.cuda.CUDAGraph:
    """Record a step of each lane without taking it; they run beside each other when it is
    replayed."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        together = torch.cuda.current_stream()
        for lane in lanes:
            beside = torch.cuda.Stream()
            beside.wait_stream(together)
            with torch.cuda.stream(beside):
                lane.step(lane.batch_size)
            together.wait_stream(beside)
    return graph


class _Lane:
    """A member with its steps, which ask the host nothing: all they need lies on the device."""

    rows: Examples | None = None
    """Those of the window, on the device; other lanes have the same."""

    def __init__(self, trainer: Trainer) -> None:
        device = trainer.device
        bags = trainer.config.batch_size // trainer.config.bag
        self.trainer = trainer
        self.batch_size = bags * trainer.config.bag
        self._parameters: list[Tensor] = list(trainer.network.parameters())
        self._newest = _weights(trainer.network)
        self._average = _weights(trainer.averaged.module)
        # The optimizer keeps what it is made of, for checkpoints; steps are ours, as its betas are
        # no tensors.
        self._mean: list[Tensor] = []
        self._square: list[Tensor] = []
        for parameter in self._parameters:
            state = trainer.optimizer.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            self._mean.append(state["exp_avg"])
            self._square.append(state["exp_avg_sq"])

        def integers(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.int64, device=device)

        steps = trainer.steps
        self._plan = _Plan(
            rows=integers(steps, self.batch_size),
            numbers=torch.zeros(steps, len(_Numbers._fields), device=device),
            shifts=integers(steps, 3),
            order=integers(steps, bags),
            sizes=[],
        )
        self._at = integers(1)
        self._total = torch.zeros((), device=device)

    def start_window(self, epoch: int, done: Progress, numbered: Corpus | Window) -> list[int]:
        """Draw what is random in a window and bring it to the device; return the sizes of its
        batches."""
        with warnings.catch_warnings():
            # The schedule misses the optimizer's steps, which are ours.
            warnings.simplefilter("ignore", UserWarning)
            plan = self._draw(epoch, done, numbered)
        for there, here in zip(self._plan[:4], plan[:4], strict=True):
            there[: len(here)].copy_(here)
        self._at.zero_()
        self._total.zero_()
        self.trainer.network.train()
        return plan.sizes

    def step(self, size: int) -> None:
        """Take the next step, with a batch of `size` rows."""
        bags = size // self.trainer.config.bag
        # Indexed by a tensor on the device, which moves on, so that a recorded step reads the plan
        # of the step that it is replayed for.
        rows = self._plan.rows.index_select(0, self._at).squeeze(0)
        numbers = self._plan.numbers.index_select(0, self._at).squeeze(0)
        shifts = self._plan.shifts.index_select(0, self._at).squeeze(0)
        order = self._plan.order.index_select(0, self._at).squeeze(0)
        now = _Numbers(*numbers.unbind())
        batch = self._shared.take(rows[:size])
        draws = Draws(shifts, now.share, order[:bags])
        loss = self.trainer.loss(batch, now.ramp, draws)
        # Not backward(), which would bind gradients to the streams of the first steps.
        gradients = list(torch.autograd.grad(loss, self._parameters))
        with torch.no_grad():
            self._update(gradients, now)
        self._total += loss.detach() * size
        self._at += 1

    def _update(self, gradients: list[Tensor], now: _Numbers) -> None:
        """Clip gradients, take a step of AdamW, and average the weights."""
        norm = nn.utils.get_total_norm(gradients)
        torch._foreach_mul_(gradients, (CLIP_NORM / (norm + 1e-6)).clamp(max=1.0))
        (group,) = self.trainer.optimizer.param_groups
        beta = group["betas"][1]
        torch._foreach_mul_(self._parameters, now.decay)
        _move(self._mean, gradients, now.momentum)
        torch._foreach_mul_(self._square, beta)
        torch._foreach_addcmul_(self._square, gradients, gradients, 1 - beta)
        divisor = torch._foreach_sqrt(self._square)
        torch._foreach_div_(divisor, now.scale)
        torch._foreach_add_(divisor, group["eps"])
        torch._foreach_div_(divisor, -now.step_size)
        torch._foreach_addcdiv_(self._parameters, self._mean, divisor)
        _move(self._average, self._newest, now.newest)

    def end_window(self, sizes: Sequence[int], before: Progress) -> Progress:
        """Wait for the window to end; return how far the epoch is."""
        trainer = self.trainer
        steps = len(sizes)
        trainer.averaged.n_averaged += steps
        for state in trainer.optimizer.state.values():
            state["step"] += steps
        averages = trainer.averaged.module.buffers()
        for average, newest in zip(averages, trainer.network.buffers(), strict=True):
            if not average.is_floating_point():
                average.copy_(newest)  # how many batches were seen
        loss = before.loss + float(self._total)
        segments = before.segments + sum(sizes)
        return Progress(before.windows + 1, loss, segments)

    @property
    def _shared(self) -> Examples:
        assert self.rows is not None
        return self.rows

    def _draw(self, epoch: int, done: Progress, numbered: Corpus | Window) -> _Plan:
        """Plan the steps of a window: from one seed, in the order in which they are taken."""
        trainer = self.trainer
        config = trainer.config
        seed = trainer.window_seed(epoch, done.windows)
        torch.manual_seed(seed)
        averaged = int(trainer.averaged.n_averaged)
        epoch_segments = trainer.bags * config.bag
        seen = done.segments
        rows: list[Tensor] = []
        numbers: list[_Numbers] = []
        order: list[Tensor] = []
        sizes: list[int] = []
        for batch in numbered.epoch(trainer.left_out, config.batch_size, config.bag, seed):
            ramp = (epoch + seen / epoch_segments) / trainer.epochs
            step = len(sizes)
            # The first weights are the average of themselves, as torch's AveragedModel has it.
            is_first = averaged + step == 0
            newest = 1.0 if is_first else newest_share(config.ema, averaged + step)
            share = losses.mixup_share(trainer.mixup_alpha) if trainer.mixup_alpha > 0 else 1.0
            factors = self._factors(step)
            numbers.append(_Numbers(*factors, ramp, share, newest))
            trainer.schedule.step()
            size = len(batch.weight)
            rows.append(_padded(batch.log_mel, self.batch_size))
            bags = torch.randperm(size // config.bag)
            order.append(_padded(bags, self.batch_size // config.bag))
            sizes.append(size)
            seen += size
        if not sizes:  # all rows of the window are of the fold that is left out
            return self._plan._replace(sizes=[])
        frames = self._shared.log_mel.shape[2]
        shifts = torch.randint(frames, (len(sizes), 3))
        return _Plan(torch.stack(rows), torch.tensor(numbers), shifts, torch.stack(order), sizes)

    def _factors(self, ahead: int) -> tuple[float, float, float, float]:
        """Return AdamW's factors of the step that comes after so many others."""
        optimizer = self.trainer.optimizer
        (group,) = optimizer.param_groups
        lr = group["lr"]
        beta1, beta2 = group["betas"]
        taken = float(optimizer.state[self._parameters[0]]["step"])
        step = taken + ahead + 1
        decay = 1 - lr * group["weight_decay"]
        momentum = 1 - beta1
        step_size = lr / (1 - beta1**step)
        scale = math.sqrt(1 - beta2**step)
        return decay, momentum, step_size, scale


def _move(tensors: list[Tensor], towards: list[Tensor], share: Tensor) -> None:
    """Move tensors by a share of the way towards others."""
    way = torch._foreach_sub(towards, tensors)
    torch._foreach_mul_(way, share)
    torch._foreach_add_(tensors, way)


def _padded(numbers: Tensor, length: int) -> Tensor:
    return nn.functional.pad(numbers, (0, length - len(numbers)))


def _weights(network: nn.Module) -> list[Tensor]:
    """Return what is averaged of a network: its parameters and the statistics of its batch
    norms."""
    tensors = [*network.parameters(), *network.buffers()]
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
