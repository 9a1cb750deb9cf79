"""One member in training: its network, the average of its weights, its optimizer, schedule and
losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sssl.errors import TrainError
from sssl.model import losses
from sssl.model.augment import view
from sssl.model.ensemble import Model, ModelSpec, load
from sssl.model.examples import Corpus, Examples
from sssl.model.settings import TrainConfig
from sssl.model.shards.read import Shards
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, PartFile, digest_of

CLIP_NORM = 5.0
"""Largest norm of a step's gradient."""


class Sharded(NamedTuple):
    """Labelled rows in shards, and what a round teaches of them."""

    shards: Manifest
    examples: Manifest


class Progress(NamedTuple):
    """How far an epoch is: its windows that are done, their segments, and the sum of their losses
    over segments."""

    windows: int = 0
    loss: float = 0.0
    segments: int = 0


@dataclass(frozen=True)
class Training:
    """One training of a model, as its processes are told of it: names and numbers, no rows.

    `folder` (in the store) takes a checkpoint a member; `start` is the file of the model whose
    weights the members start from, None for random ones.
    """

    store: Store
    catalog: Manifest
    features: Manifest
    labels: Manifest
    spec: ModelSpec
    config: TrainConfig
    round: int
    folder: str
    start: PartFile | None
    device: str
    sharded: Sharded | None = None
    """The rows in shards, where they are; then the other tables' files are not read."""

    @property
    def epochs(self) -> int:
        return self.config.epochs if self.round else self.config.warmup_epochs

    def corpus(self) -> Corpus | Shards:
        """Return the rows to train on."""
        if self.sharded is None:
            return Corpus(self.store, self.catalog, self.features, self.labels)
        seed = int(digest_of([self.config.seed, self.round, "shards"])[:12], 16)
        all_layers = self.config.track_segments is None
        return Shards(self.store, *self.sharded, self.spec.classes, all_layers, seed)


class Draws(NamedTuple):
    """What is random in a step, as tensors on the device: shifts of three views in frames [3],
    share of an example when it is mixed [], and whom bags are mixed with [G]."""

    shifts: Tensor
    share: Tensor
    order: Tensor


class Trainer:
    """One member's training: network, averaged weights, optimizer and schedule."""

    def __init__(self, training: Training, member: int, corpus: Corpus | Shards) -> None:
        self.config, self.round, self.member, self.device = (
            training.config,
            training.round,
            member,
            training.device,
        )
        self.epochs, self.corpus, config = training.epochs, corpus, training.config
        self.left_out = member if training.spec.members > 1 else None
        self.bags = corpus.bags(self.left_out, config.bag)
        if self.bags * config.bag < 2:
            raise TrainError(
                f"nothing to train on: {self.bags} segments carry weight for member {member}"
            )
        torch.manual_seed(self.seed("weights"))
        self.network = training.spec.build().to(self.device)
        if training.start is not None:
            start = load(training.store.read_file(training.start))
            if training.round and start.spec.members != training.spec.members:
                raise TrainError(
                    f"round {training.round} has {training.spec.members} members, the model it"
                    f" starts from {start.spec.members}: train all rounds with the same cross_fit"
                )
            start_from(self.network, start, training.spec, member)
        self.averaged = torch.optim.swa_utils.AveragedModel(
            self.network, avg_fn=_ema(config.ema), use_buffers=True
        )
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        # Each group of parts that is shuffled together ends in a batch that may be short.
        a_step = config.batch_size // config.bag
        self.steps = self.bags // a_step + corpus.groups
        peak = config.learning_rate if self.round == 0 else config.learning_rate / 3
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, peak, total_steps=self.epochs * self.steps + 1
        )
        prior = corpus.prior()
        # Weights of a mean of 1 a segment; a class without a segment has none to weigh.
        balance = prior.clamp(min=1e-8) ** -config.class_balance
        self.class_weight = (balance / (prior * balance).sum()).to(self.device)
        self.prior = prior.to(self.device) * self.class_weight

    def run_window(self, epoch: int, done: Progress) -> Progress:
        """Train the next window of an epoch; return how far the epoch is then."""
        seed = self.window_seed(epoch, done.windows)
        window = self.corpus.window(epoch, done.windows)
        torch.manual_seed(seed)
        self.network.train()
        step_losses, sizes = [], []
        seen = done.segments
        for batch in window.epoch(self.left_out, self.config.batch_size, self.config.bag, seed):
            ramp = (epoch + seen / (self.bags * self.config.bag)) / self.epochs
            loss = self.loss(batch.to(self.device), ramp)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
            self.optimizer.step()
            self.schedule.step()
            self.averaged.update_parameters(self.network)
            step_losses.append(
                loss.detach()
            )  # read at the end: a GPU would be waited for each time
            sizes.append(len(batch.weight))
            seen += len(batch.weight)
        total = sum(float(loss) * size for loss, size in zip(step_losses, sizes, strict=True))
        return Progress(done.windows + 1, done.loss + total, seen)

    def window_seed(self, epoch: int, number: int) -> int:
        """Return the seed of a window of an epoch; that of the first one is the epoch's."""
        return self.seed(f"{epoch}/{number}" if number else epoch)

    @torch.inference_mode()
    def left_out_loss(self) -> float:
        """Return the mean cross-entropy of the member-to-be on the fold that it leaves out; NaN if
        that has no row."""
        network = self._member().eval()
        total, seen = 0.0, 0
        for batch in self.corpus.fold(self.member, self.config.batch_size):
            logits = network(batch.to(self.device).log_mel.float())
            total += float(losses.soft_cross_entropy(logits, batch.target.to(self.device)).sum())
            seen += len(batch.weight)
        return total / seen if seen else float("nan")

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that become the member."""
        return {
            name: tensor.detach().cpu().clone()
            for name, tensor in self._member().state_dict().items()
        }

    def _member(self) -> nn.Module:
        return self.averaged.module if self.config.ema else self.network

    def state_dict(self) -> dict[str, Any]:
        return {
            name: getattr(self, name).state_dict()
            for name in ("network", "averaged", "optimizer", "schedule")
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            getattr(self, name).load_state_dict(value)

    @property
    def mixup_alpha(self) -> float:
        """Beta parameter of mixup in this round; 0: none."""
        return self.config.mixup_alpha if self.round or self.config.warmup_mixup else 0.0

    def loss(self, batch: Examples, ramp: float | Tensor, drawn: Draws | None = None) -> Tensor:
        """Return L_confident + lambda_u L_noisy + lambda_kl KL(two views) + lambda_r KL(prior ||
        mean posterior).

        Numbers that were `drawn` before, on the device, save the wait for them.
        """
        config = self.config
        log_mel = batch.log_mel.float()
        shifts = (None, None, None) if drawn is None else drawn.shifts.unbind()
        soft_label = losses.smooth(batch.target, config.label_smoothing)
        weight = batch.weight * (batch.target @ self.class_weight)
        bags = view(log_mel, config.augment, shifts[0]).unflatten(0, (-1, config.bag))
        bag_label = soft_label.unflatten(0, (-1, config.bag))
        if drawn is None:
            mixed, target = losses.mixup(bags, bag_label, self.mixup_alpha)
        else:
            mixed, target = losses.mixed(bags, bag_label, drawn.share, drawn.order)
        logits = self.network(mixed.flatten(0, 1))
        by_bag = logits.unflatten(0, (-1, config.bag))
        noisy_loss = config.lambda_noisy * ramp * losses.squared_error(by_bag, target).flatten()
        confident_loss = losses.bag_cross_entropy(by_bag, target).repeat_interleave(config.bag)
        loss = (weight * torch.where(batch.noisy, noisy_loss, confident_loss)).sum() / len(weight)
        loss = loss + config.lambda_prior * losses.prior_divergence(logits, self.prior)
        if config.lambda_consistency and self.round:
            views = torch.cat([view(log_mel, config.augment, shift) for shift in shifts[1:]])
            loss = loss + config.lambda_consistency * losses.consistency(
                *self.network(views).chunk(2)
            )
        return loss

    def seed(self, what: int | str) -> int:
        # Derived, not drawn: an epoch that runs again after a kill sees the same numbers.
        return int(digest_of([self.config.seed, self.round, self.member, what])[:12], 16)


def start_from(network: nn.Module, start: Model, spec: ModelSpec, member: int) -> None:
    """Copy the weights of a model's member into a network; where the classes differ the head stays
    as it is.

    Raises:
        TrainError: the model has another front-end, or takes other log-mels.
    """
    theirs = start.spec
    cuts = [
        replace(cut, hop_s=None) for cut in (theirs.cut, spec.cut)
    ]  # how far apart segments are is all the same
    if theirs.architecture != spec.architecture or cuts[0] != cuts[1]:
        raise TrainError(
            f"weights to start from are of {theirs.architecture} on {theirs.cut}, "
            f"expected {spec.architecture} on {spec.cut}"
        )
    weights = start.members[member % theirs.members].state_dict()
    if theirs.classes != spec.classes:
        weights = network.state_dict() | {
            name: w for name, w in weights.items() if not name.startswith("head.")
        }
    network.load_state_dict(weights)


def newest_share(decay: float, count: int) -> float:
    """Return the share of the newest weights in an average of `count` before them; it shrinks from
    0.9 on, so that random first weights are soon forgotten."""
    return 1 - min(decay, (1 + count) / (10 + count))


def _ema(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return an exponential moving average."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        return averaged + (current - averaged) * newest_share(decay, int(count))

    return average
