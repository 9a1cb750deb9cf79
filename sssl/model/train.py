"""Training of a model: a process a member, a checkpoint an epoch, every random number derived from the seed."""

from __future__ import annotations

import fnmatch
import io
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sssl.audio.mel import MelConfig
from sssl.config import require
from sssl.errors import TrainError
from sssl.model import losses
from sssl.model.augment import view
from sssl.model.distributed import ALONE, Ranks
from sssl.model.ensemble import Model, ModelSpec, load
from sssl.model.examples import Corpus, Examples
from sssl.model.networks import smallest_side
from sssl.model.settings import TrainConfig
from sssl.runtime.process_pool import Failure, IsolatedPool, Limits
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, digest_of


@dataclass(frozen=True)
class Training:
    """One training of a model, as its processes are told of it: names and numbers, no rows.

    `folder` (in the store) takes a checkpoint a member; `start` is the file of the model whose weights the members
    start from, None for random ones.
    """

    store: Store
    catalog: Manifest
    segments: Manifest
    labels: Manifest
    spec: ModelSpec
    config: TrainConfig
    round: int
    folder: str
    start: str | None
    device: str

    @property
    def epochs(self) -> int:
        return self.config.epochs if self.round else self.config.warmup_epochs


class Epoch(NamedTuple):
    """One finished epoch of a member, 0-based, with its mean loss in nats and the CPU time it took; with patience also
    its mean cross-entropy on the fold that it leaves out."""

    member: int
    epoch: int
    loss: float
    segments: int
    cpu_s: float = 0.0
    left_out_loss: float | None = None


def train(training: Training, processes: int, on_epoch: Callable[[Epoch], None], ranks: Ranks = ALONE) -> Model:
    """Train the members of a model, `processes` at a time with a torch thread each, going on from their checkpoints.

    One thread a member is faster than all threads on one member, does not stall on a busy machine, and gives the same
    weights however many cores there are. Epochs that an earlier process finished are reported like new ones.

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


def train_share(training: Training, processes: int, ranks: Ranks, report: Callable[[], None]) -> None:
    """Train the members that fall to this process; `report` is called now and then.

    Raises:
        TrainError: no row to train on, or a process died.
    """
    mine = replace(training, device=ranks.device())
    pool = IsolatedPool(processes, Limits(timeout_s=None, memory_mb=None), preload="sssl.model.train")
    try:
        running = [pool.submit(partial(train_member, mine), k) for k in ranks.share(training.spec.members)]
        while wait(running, timeout=0.5).not_done:
            report()
        for future in running:
            outcome = pool.result(future)
            if isinstance(outcome, Failure):
                raise TrainError(f"a training process died: {outcome.detail}")
    finally:
        pool.close()


def train_member(training: Training, member: int) -> None:
    """Train one member up to its last epoch, with a checkpoint an epoch."""
    started_s = time.process_time()
    trainer = _Trainer(training, member)
    checkpoint = _read_checkpoint(training, member)
    if checkpoint is not None:
        trainer.load_state_dict(checkpoint["state"])
    history = [Epoch(*done) for done in checkpoint["history"]] if checkpoint is not None else []
    best = dict(checkpoint["weights"]) if checkpoint is not None else {}
    _write_history(training, member, history)
    while len(history) < training.epochs and not stops_early(history, training.config.patience):
        loss, segments = trainer.run_epoch(len(history))
        left_out_loss = trainer.left_out_loss() if training.config.patience else None
        ended_s = time.process_time()
        history.append(Epoch(member, len(history), loss, segments, ended_s - started_s, left_out_loss))
        started_s = ended_s
        if _best(history) is history[-1]:
            best = trainer.weights()
        _write_checkpoint(training, member, history, trainer, best)
        _write_history(training, member, history)


def stops_early(history: Sequence[Epoch], patience: int | None) -> bool:
    """Whether the left-out loss has not fallen for `patience` epochs."""
    return patience is not None and bool(history) and len(history) - 1 - _best(history).epoch >= patience


def _best(history: Sequence[Epoch]) -> Epoch:
    """Return the epoch whose weights become the member: the last one, or that of the lowest left-out loss."""
    return min(reversed(history), key=_left_out_loss)


def _left_out_loss(done: Epoch) -> float:
    loss = 0.0 if done.left_out_loss is None else done.left_out_loss
    return math.inf if math.isnan(loss) else loss


def start_from(network: nn.Module, start: Model, spec: ModelSpec, member: int) -> None:
    """Copy the weights of a model's member into a network; where the classes differ the head stays as it is.

    Raises:
        TrainError: the model has another front-end, or takes other log-mels.
    """
    theirs = start.spec
    cuts = [replace(cut, hop_s=None) for cut in (theirs.cut, spec.cut)]  # how far apart segments are is all the same
    if theirs.architecture != spec.architecture or cuts[0] != cuts[1]:
        raise TrainError(
            f"weights to start from are of {theirs.architecture} on {theirs.cut}, "
            f"expected {spec.architecture} on {spec.cut}"
        )
    weights = start.members[member % theirs.members].state_dict()
    if theirs.classes != spec.classes:
        weights = network.state_dict() | {name: w for name, w in weights.items() if not name.startswith("head.")}
    network.load_state_dict(weights)


def cpu_seconds(store: Store, folder: str) -> float:
    """Return the CPU time that the members of a model took to train, all their processes together."""
    names = fnmatch.filter(store.names(folder), "member*.json")
    histories = [store.read_json(f"{folder}/{name}") for name in names]
    return sum(Epoch(*done).cpu_s for history in histories for done in history)


def check_size(model: str, cut: MelConfig) -> None:
    """Check that segments are large enough for a front-end.

    Raises:
        ConfigError: they are not.
    """
    (mels, frames), least = cut.shape, smallest_side(model)
    require(mels >= least, "mels", mels, f"{least} or more for --model {model}")
    require(frames >= least, "segment_s", cut.segment_s, f"{least} frames or more for --model {model}, not {frames}")


def check_trainable(by_fold: dict[str, list[int]], cross_fit: bool) -> None:
    """Check the labelled train tracks of each class, by fold, before anything expensive starts.

    Raises:
        TrainError: no label at all, or a class with too few tracks to learn and to check.
    """
    if not any(map(sum, by_fold.values())):
        raise TrainError("no track has a label: give a `label` column in the catalog, or --labels labels.csv")
    for name, counts in by_fold.items():
        if sum(counts) < 2:
            tracks = "no usable track" if sum(counts) == 0 else "a single usable track"
            raise TrainError(
                f"class {name} has {tracks} to train on, expected at least 2: label more, or leave it out of --classes"
            )
        if cross_fit and sum(count > 0 for count in counts) < 2:
            raise TrainError(
                f"all {sum(counts)} usable tracks of class {name} are in one fold, so whatever scores them has never "
                "seen the class: check group_id, label more, or train one model with --no-cross-fit"
            )


class _Trainer:
    """One member's training: network, averaged weights, optimizer and schedule."""

    def __init__(self, training: Training, member: int) -> None:
        self.config, self.round, self.member, self.device = training.config, training.round, member, training.device
        self.epochs, config = training.epochs, training.config
        self.corpus = corpus = Corpus(training.store, training.catalog, training.segments, training.labels)
        self.left_out = member if training.spec.members > 1 else None
        self.bags = corpus.bags(self.left_out, config.bag)
        if self.bags * config.bag < 2:
            raise TrainError(f"nothing to train on: {self.bags} segments carry weight for member {member}")
        torch.manual_seed(self._seed("weights"))
        self.network = training.spec.build().to(self.device)
        if training.start is not None:
            start = load(training.store.read_bytes(training.start))
            if training.round and start.spec.members != training.spec.members:
                raise TrainError(
                    f"round {training.round} has {training.spec.members} members, the model it starts from "
                    f"{start.spec.members}: train all rounds with the same --cross-fit"
                )
            start_from(self.network, start, training.spec, member)
        self.averaged = torch.optim.swa_utils.AveragedModel(self.network, avg_fn=_ema(config.ema), use_buffers=True)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        # Each group of parts that is shuffled together ends in a batch that may be short.
        a_step = config.batch_size // config.bag
        steps = self.epochs * (self.bags // a_step + math.ceil(len(corpus.parts) / corpus.shuffle_parts))
        peak = config.learning_rate if self.round == 0 else config.learning_rate / 3
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, peak, total_steps=steps + 1)
        prior = corpus.prior()
        # Weights of a mean of 1 a segment; a class without a segment has none to weigh.
        balance = prior.clamp(min=1e-8) ** -config.class_balance
        self.class_weight = (balance / (prior * balance).sum()).to(self.device)
        self.prior = prior.to(self.device) * self.class_weight

    def run_epoch(self, epoch: int) -> tuple[float, int]:
        """Train one epoch; return its mean loss and its number of segments."""
        torch.manual_seed(self._seed(epoch))
        self.network.train()
        total, seen = 0.0, 0
        for batch in self.corpus.epoch(self.left_out, self.config.batch_size, self.config.bag, self._seed(epoch)):
            ramp = (epoch + seen / (self.bags * self.config.bag)) / self.epochs
            loss = self._loss(batch.to(self.device), ramp)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimizer.step()
            self.schedule.step()
            self.averaged.update_parameters(self.network)
            total, seen = total + float(loss.detach()) * len(batch.weight), seen + len(batch.weight)
        return total / seen, seen

    @torch.inference_mode()
    def left_out_loss(self) -> float:
        """Return the mean cross-entropy of the member-to-be on the fold that it leaves out; NaN if that has no row."""
        network = self._member().eval()
        total, seen = 0.0, 0
        for batch in self.corpus.fold(self.member, self.config.batch_size):
            logits = network(batch.to(self.device).log_mel.float())
            total += float(losses.soft_cross_entropy(logits, batch.target.to(self.device)).sum())
            seen += len(batch.weight)
        return total / seen if seen else float("nan")

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that become the member."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self._member().state_dict().items()}

    def _member(self) -> nn.Module:
        return self.averaged.module if self.config.ema else self.network

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
        soft_label = losses.smooth(batch.target, config.label_smoothing)
        weight = batch.weight * (batch.target @ self.class_weight)
        bags = view(log_mel, config.augment).unflatten(0, (-1, config.bag))
        mixed, target = losses.mixup(bags, soft_label.unflatten(0, (-1, config.bag)), alpha)
        logits = self.network(mixed.flatten(0, 1))
        by_bag = logits.unflatten(0, (-1, config.bag))
        noisy_loss = config.lambda_noisy * ramp * losses.squared_error(by_bag, target).flatten()
        confident_loss = losses.bag_cross_entropy(by_bag, target).repeat_interleave(config.bag)
        loss = (weight * torch.where(batch.noisy, noisy_loss, confident_loss)).sum() / len(weight)
        loss = loss + config.lambda_prior * losses.prior_divergence(logits, self.prior)
        if config.lambda_consistency and self.round:
            views = torch.cat([view(log_mel, config.augment), view(log_mel, config.augment)])
            loss = loss + config.lambda_consistency * losses.consistency(*self.network(views).chunk(2))
        return loss

    def _seed(self, what: int | str) -> int:
        # Derived, not drawn: an epoch that runs again after a kill sees the same numbers.
        return int(digest_of([self.config.seed, self.round, self.member, what])[:12], 16)


def _ema(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return an exponential moving average whose decay grows from 0.1: random first weights are soon forgotten."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        return averaged + (current - averaged) * (1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return average


def _checkpoint_path(training: Training, member: int) -> str:
    return f"{training.folder}/member{member}.pt"


def _write_checkpoint(
    training: Training, member: int, history: list[Epoch], trainer: _Trainer, weights: dict[str, Tensor]
) -> None:
    content = {"history": list(map(tuple, history)), "state": trainer.state_dict(), "weights": weights}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    training.store.write_bytes(_checkpoint_path(training, member), buffer.getvalue())


def _read_checkpoint(training: Training, member: int) -> dict[str, Any] | None:
    path = _checkpoint_path(training, member)
    if not training.store.exists(path):
        return None
    content = io.BytesIO(training.store.read_bytes(path))
    return dict(torch.load(content, map_location="cpu", weights_only=True))


def _history_path(training: Training, member: int) -> str:
    return f"{training.folder}/member{member}.json"


def _write_history(training: Training, member: int, history: list[Epoch]) -> None:
    # Beside the checkpoint, so that whoever shows progress need not read weights.
    training.store.write_json(_history_path(training, member), history)


def _finished_epochs(training: Training) -> list[Epoch]:
    """List the epochs that members have finished, in the order of epochs."""
    paths = [_history_path(training, k) for k in range(training.spec.members)]
    found = [Epoch(*done) for path in paths if training.store.exists(path) for done in training.store.read_json(path)]
    return sorted(found, key=lambda done: (done.epoch, done.member))


def _member(training: Training, member: int) -> nn.Module:
    """Build a member from its last checkpoint."""
    checkpoint = _read_checkpoint(training, member)
    assert checkpoint is not None
    network = training.spec.build()
    network.load_state_dict(checkpoint["weights"])
    return network.eval()
