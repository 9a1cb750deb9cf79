"""One member in training: its network, the average of its weights, its optimizer, schedule and
losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sssl.errors import TrainError
from sssl.model import losses
from sssl.model.augment import view
from sssl.model.ensemble import Model, ModelSpec, load
from sssl.model.examples import Corpus, Examples
from sssl.model.networks import in_db
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

    `folder` (in the store) takes one checkpoint per member; `start` is the file of the model
    whose weights the members start from, None for random ones.
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
        return self.config.epochs_of(self.round)

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
        config = training.config
        self.config = config
        self.round = training.round
        self.epochs = training.epochs
        self.device = training.device
        self.member = member
        self.corpus = corpus
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
        # With buffers: statistics of batch normalisation belong to the weights that made them.
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
        # One step more than there are: the schedule takes the first when it is made, and raises on
        # a step too many.
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, peak, total_steps=self.epochs * self.steps + 1
        )
        prior = corpus.prior()
        # Weights whose mean over the segments is 1; a class without a segment has none to weigh.
        balance = prior.clamp(min=1e-8) ** -config.class_balance
        self.class_weight = (balance / (prior * balance).sum()).to(self.device)
        self.prior = prior.to(self.device) * self.class_weight

    def run_window(self, epoch: int, done: Progress) -> Progress:
        """Train the next window of an epoch; return how far the epoch is then."""
        seed = self.window_seed(epoch, done.windows)
        window = self.corpus.window(epoch, done.windows)
        torch.manual_seed(seed)
        self.network.train()
        step_losses = []
        sizes = []
        seen = done.segments
        of_epoch = self.bags * self.config.bag
        for batch in window.epoch(self.left_out, self.config.batch_size, self.config.bag, seed):
            ramp = (epoch + seen / of_epoch) / self.epochs
            loss = self.loss(batch.to(self.device), ramp)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
            self.optimizer.step()
            self.schedule.step()
            self.averaged.update_parameters(self.network)
            # Read at the end: a GPU would be waited for each time.
            step_losses.append(loss.detach())
            sizes.append(len(batch.weight))
            seen += len(batch.weight)
        total = 0.0
        for loss, size in zip(step_losses, sizes, strict=True):
            total += float(loss) * size
        return Progress(done.windows + 1, done.loss + total, seen)

    def window_seed(self, epoch: int, number: int) -> int:
        """Return the seed of a window of an epoch; that of the first one is the epoch's."""
        if number == 0:
            return self.seed(epoch)
        return self.seed(f"{epoch}/{number}")

    @torch.inference_mode()
    def left_out_loss(self) -> float:
        """Return the mean cross-entropy of the member-to-be on the fold that it leaves out; NaN if
        that has no row."""
        # Without bags and mixup: this is about single segments.
        network = self._member().eval()
        total = 0.0
        seen = 0
        for batch in self.corpus.fold(self.member, self.config.batch_size):
            rows = batch.to(self.device)
            logits = network(in_db(rows.log_mel))
            loss = losses.soft_cross_entropy(logits, rows.target)
            total += float(loss.sum())
            seen += len(batch.weight)
        if seen:
            return total / seen
        return float("nan")

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that become the member."""
        # Copies on the host: those of the network change with the next step.
        weights = {}
        for name, tensor in self._member().state_dict().items():
            weights[name] = tensor.detach().cpu().clone()
        return weights

    def _member(self) -> nn.Module:
        if self.config.ema:
            return self.averaged.module
        return self.network

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed training goes on from."""
        state = {}
        for name in ("network", "averaged", "optimizer", "schedule"):
            state[name] = getattr(self, name).state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            getattr(self, name).load_state_dict(value)

    @property
    def mixup_alpha(self) -> float:
        """Beta parameter of mixup in this round; 0: none."""
        if self.round or self.config.warmup_mixup:
            return self.config.mixup_alpha
        return 0.0

    def loss(self, batch: Examples, ramp: float | Tensor, drawn: Draws | None = None) -> Tensor:
        """Return L_confident + lambda_u L_noisy + lambda_kl KL(two views) + lambda_r KL(prior ||
        mean posterior).

        Numbers that were `drawn` before, on the device, save the wait for them.
        """
        config = self.config
        log_mel = in_db(batch.log_mel)
        in_bags = (-1, config.bag)  # rows [B] as bags [G, S]
        shifts: Sequence[Tensor | None] = (None, None, None)
        if drawn is not None:
            shifts = drawn.shifts.unbind()
        soft_label = losses.smooth(batch.target, config.label_smoothing)
        weight = batch.weight * (batch.target @ self.class_weight)
        seen = view(log_mel, config.augment, shifts[0])
        bags = seen.unflatten(0, in_bags)
        bag_label = soft_label.unflatten(0, in_bags)
        if drawn is None:
            mixed, target = losses.mixup(bags, bag_label, self.mixup_alpha)
        else:
            mixed, target = losses.mixed(bags, bag_label, drawn.share, drawn.order)
        logits = self.network(mixed.flatten(0, 1))
        by_bag = logits.unflatten(0, in_bags)
        squared_error = losses.squared_error(by_bag, target).flatten()
        noisy_loss = config.lambda_noisy * ramp * squared_error
        # A bag has one loss, which counts for each of its rows.
        confident_loss = losses.bag_cross_entropy(by_bag, target).repeat_interleave(config.bag)
        by_row = torch.where(batch.noisy, noisy_loss, confident_loss)
        # By the number of rows, not by their weight: a batch of doubtful rows moves less.
        loss = (weight * by_row).sum() / len(weight)
        loss = loss + config.lambda_prior * losses.prior_divergence(logits, self.prior)
        # Two more views are two more passes: at 0, the default, nobody pays for them.
        if config.lambda_consistency and self.round:
            others = [view(log_mel, config.augment, shift) for shift in shifts[1:]]
            # In one batch, so that both views meet the same statistics of batch normalisation.
            first, second = self.network(torch.cat(others)).chunk(2)
            loss = loss + config.lambda_consistency * losses.consistency(first, second)
        return loss

    def seed(self, what: int | str) -> int:
        """Return the seed of one thing that is random in this training."""
        # Derived, not drawn: an epoch that runs again after a kill sees the same numbers.
        digest = digest_of([self.config.seed, self.round, self.member, what])
        return int(digest[:12], 16)


def start_from(network: nn.Module, start: Model, spec: ModelSpec, member: int) -> None:
    """Copy the weights of a model's member into a network; where the classes differ the head stays
    as it is.

    Raises:
        TrainError: the model has another front-end, or takes other log-mels.
    """
    theirs = start.spec
    # How far apart segments are is all the same to weights.
    is_alike_cut = replace(theirs.cut, hop_s=None).is_alike(replace(spec.cut, hop_s=None))
    if theirs.architecture != spec.architecture or not is_alike_cut:
        raise TrainError(
            f"weights to start from are of {theirs.architecture} on {theirs.cut}, "
            f"expected {spec.architecture} on {spec.cut}"
        )
    # If that model has one member, all members start from it.
    weights = start.members[member % theirs.members].state_dict()
    if theirs.classes != spec.classes:
        body = {name: w for name, w in weights.items() if not name.startswith("head.")}
        weights = network.state_dict() | body
    network.load_state_dict(weights)


def newest_share(decay: float, count: int) -> float:
    """Return the share of the newest weights in an average of `count` before them; it shrinks from
    0.9 on, so that random first weights are soon forgotten."""
    # As TensorFlow's moving average warms up.
    of_few = (1 + count) / (10 + count)
    return 1 - min(decay, of_few)


def _ema(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return an exponential moving average."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        return averaged + (current - averaged) * newest_share(decay, int(count))

    return average
