"""Training of a model: its members one after the other, a checkpoint an epoch, every random number from the seed."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from sssl import losses
from sssl.augment import AugmentConfig, view
from sssl.data import Corpus, Examples
from sssl.models import Model, ModelSpec
from sssl.store import Store, digest_of


class TrainError(Exception):
    """Training that cannot start; the message says what is missing from the data."""


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained on the labels of a round."""

    model: str = "cnn"
    """Architecture of the members."""
    cross_fit: bool = True
    """Train one member a fold, each without that fold; otherwise one member on everything."""
    warmup_epochs: int = 12
    """Epochs of round 0, on inherited labels."""
    epochs: int = 4
    """Epochs of each later round, starting from the last accepted model."""
    batch_size: int = 32
    """Segments a step."""
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule of round 0; later rounds peak at a third of it."""
    weight_decay: float = 1e-3
    """Decoupled weight decay (AdamW)."""
    ema: float = 0.99
    """Decay a step of the averaged weights that become the model; 0 takes the last ones."""
    mixup_alpha: float = 0.5
    """Beta parameter of mixup; 0 turns it off."""
    warmup_mixup: bool = True
    """Use mixup in round 0 too."""
    lambda_noisy: float = 1.0
    """Weight of the loss of noisy segments, ramped up linearly over a round."""
    lambda_consistency: float = 0.0
    """Weight of the KL divergence between two views; anything above 0 doubles the cost of a step."""
    lambda_prior: float = 0.1
    """Weight of the KL divergence between class shares and the mean posterior."""
    seed: int = 0
    """Every random number of training follows from it."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class Epoch:
    """Progress of training: one member's epoch, 0-based, with its mean losses in nats."""

    member: int
    members: int
    epoch: int
    epochs: int
    loss: float
    segments: int


@dataclass
class _Progress:
    """What a checkpoint holds: finished members' weights, and the running member's state after `epoch` epochs."""

    finished: list[dict[str, Tensor]] = field(default_factory=list)
    epoch: int = 0
    running: dict[str, Any] | None = None


def train(
    corpus: Corpus,
    spec: ModelSpec,
    config: TrainConfig,
    *,
    round: int,
    start: Model | None,
    store: Store,
    checkpoint: str,
    on_epoch: Callable[[Epoch], None],
    device: str,
) -> Model:
    """Train a model on a corpus, going on from `checkpoint` (a path in the store) if a training was stopped.

    Args:
        start: model whose weights the members start from; None starts from random ones (round 0).

    Raises:
        TrainError: no row to train on.
    """
    progress = _restore(store, checkpoint)
    for k in range(len(progress.finished), spec.members):
        trainer = _Trainer(corpus, spec, config, round, k, start, device)
        if progress.running is not None:
            trainer.load_state_dict(progress.running)
        for epoch in range(progress.epoch, trainer.epochs):
            loss, segments = trainer.run_epoch(epoch)
            progress = _Progress(progress.finished, epoch + 1, trainer.state_dict())
            _save(store, checkpoint, progress)
            on_epoch(Epoch(k, spec.members, epoch, trainer.epochs, loss, segments))
        progress = _Progress([*progress.finished, trainer.weights()])
    return Model(spec, [_built(spec, weights) for weights in progress.finished])


def check_trainable(counts: dict[str, int]) -> None:
    """Check the labelled train tracks of each class before anything expensive starts.

    Raises:
        TrainError: no label at all, or a class with too few tracks to learn and to check.
    """
    if not sum(counts.values()):
        raise TrainError("no track has a label: give a `label` column in the catalog, or --labels labels.csv")
    for name, count in counts.items():
        if count < 2:
            tracks = "no usable track" if count == 0 else "a single usable track"
            raise TrainError(
                f"class {name} has {tracks} to train on, expected at least 2: label more, or leave it out of --classes"
            )


class _Trainer:
    """One member's training: network, averaged weights, optimizer and schedule."""

    def __init__(
        self,
        corpus: Corpus,
        spec: ModelSpec,
        config: TrainConfig,
        round: int,
        member: int,
        start: Model | None,
        device: str,
    ) -> None:
        self.corpus, self.config, self.round, self.member, self.device = corpus, config, round, member, device
        self.left_out = member if spec.members > 1 else None
        self.epochs = config.epochs if round else config.warmup_epochs
        self.rows = corpus.rows(self.left_out)
        if self.rows < 2:
            raise TrainError(f"nothing to train on: {self.rows} segments carry weight for member {member}")
        torch.manual_seed(self._seed("weights"))
        self.network = spec.build().to(device)
        if start is not None:
            self.network.load_state_dict(start.members[member].state_dict())
        self.averaged = torch.optim.swa_utils.AveragedModel(self.network, avg_fn=_ema(config.ema), use_buffers=True)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        # Each group of parts that is shuffled together ends in a batch that may be short.
        steps = self.epochs * (self.rows // config.batch_size + ceil(len(corpus.parts) / corpus.shuffle_parts))
        peak = config.learning_rate if round == 0 else config.learning_rate / 3
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, peak, total_steps=steps + 1)
        self.prior = corpus.prior().to(device)

    def run_epoch(self, epoch: int) -> tuple[float, int]:
        """Train one epoch; return its mean loss and its number of segments."""
        torch.manual_seed(self._seed(epoch))
        self.network.train()
        total, seen = 0.0, 0
        for batch in self.corpus.epoch(self.left_out, self.config.batch_size, self._seed(epoch)):
            ramp = (epoch + seen / self.rows) / self.epochs
            loss = self._loss(batch.to(self.device), ramp)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimizer.step()
            self.schedule.step()
            self.averaged.update_parameters(self.network)
            total, seen = total + float(loss.detach()) * len(batch.weight), seen + len(batch.weight)
        return total / seen, seen

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that become the member."""
        network = self.averaged.module if self.config.ema else self.network
        return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).state_dict() for name in ("network", "averaged", "optimizer", "schedule")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            getattr(self, name).load_state_dict(value)

    def _loss(self, batch: Examples, ramp: float) -> Tensor:
        """Return L_confident + lambda_u L_noisy + lambda_kl KL(two views) + lambda_r KL(prior || mean posterior)."""
        config = self.config
        log_mel = batch.log_mel.float()
        alpha = config.mixup_alpha if self.round or config.warmup_mixup else 0.0
        mixed, target = losses.mixup(view(log_mel, config.augment), batch.target, alpha)
        logits = self.network(mixed)
        noisy_loss = config.lambda_noisy * ramp * losses.squared_error(logits, target)
        per_row = torch.where(batch.noisy, noisy_loss, losses.soft_cross_entropy(logits, target))
        loss = (batch.weight * per_row).sum() / len(batch.weight)
        loss = loss + config.lambda_prior * losses.prior_divergence(logits, self.prior)
        if config.lambda_consistency and self.round:
            views = torch.cat([view(log_mel, config.augment), view(log_mel, config.augment)])
            loss = loss + config.lambda_consistency * losses.consistency(*self.network(views).chunk(2))
        return loss

    def _seed(self, what: int | str) -> int:
        # Derived, not drawn: an epoch that runs again after a kill sees the same numbers.
        return int(digest_of([self.config.seed, self.round, self.member, what])[:12], 16)


def _ema(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return an exponential moving average whose decay grows from 0.1, so that random first weights are soon forgotten."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        return averaged + (current - averaged) * (1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return average


def _built(spec: ModelSpec, weights: dict[str, Tensor]) -> nn.Module:
    network = spec.build()
    network.load_state_dict(weights)
    return network.eval()


def _save(store: Store, path: str, progress: _Progress) -> None:
    buffer = io.BytesIO()
    torch.save(vars(progress), buffer)
    store.write_bytes(path, buffer.getvalue())


def _restore(store: Store, path: str) -> _Progress:
    if not store.exists(path):
        return _Progress()
    return _Progress(**torch.load(io.BytesIO(store.read_bytes(path)), map_location="cpu", weights_only=True))
