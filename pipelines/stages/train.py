"""Train the model of a round on the round's labels, logged in MLflow. Plain PyTorch; Beam only
copies labelled features to shards, where they do not fit into memory.

sssl train --output OUTPUT --round R [flags] [-- beam options]
torchrun --nproc-per-node GPUS -m pipelines.cli train --output OUTPUT --round R [flags]
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.stages.settings_file import IN_FILE, Source
from pipelines.stages.shards import make_shards, settle_for_round, trained_on
from pipelines.stages.standing import (
    find_earlier,
    learned_stands,
    origin_of,
    origin_stands,
    own_config,
    taken_down_since,
)
from pipelines.stages.weights import initial_weights, named_by_content
from pipelines.terminal.console import bar, console, tell
from pipelines.terminal.flags import complain
from schemas import records
from schemas.summaries import CatalogSummary, LedgerSummary, ModelsSummary
from sssl.audio.mel import MelConfig
from sssl.errors import DeviceError
from sssl.model.ensemble import ModelSpec, dump, model_id
from sssl.model.settings import TrainConfig, check_size, check_trainable
from sssl.model.train import Epoch, cpu_seconds, train, train_share
from sssl.model.trainer import Sharded, Training
from sssl.runtime.device import describe, device, refuse_cpu_beside_gpu, require_gpu
from sssl.runtime.distributed import ALONE, Ranks, joined
from sssl.runtime.machine import cores
from sssl.store.folder import Store
from sssl.store.manifest import KEPT_FROM, TAKEN_DOWN, Made, Manifest, Snapshot, digest_of
from sssl.store.rounds import has_nothing_to_split
from sssl.tracking.tracker import Tracker, Untracked
from sssl.words import counted


@dataclass(frozen=True)
class Config:
    """Train the model of a round on the round's labels."""

    output: str
    """Output folder of the relabel stage."""
    round: int
    """Round to train: 0 from random weights or `init`, later ones from the last accepted model."""
    source: Source = field(default_factory=Source)
    settings: Annotated[TrainConfig, IN_FILE] = field(default_factory=TrainConfig)
    processes: int | None = None
    """Members that train at the same time on a CPU; default: one per core. On a GPU they train side
    by side."""
    accelerator: Literal["gpu", "cpu"] | None = None
    """`gpu`: refuse to train where there is no GPU, rather than pay for one and train on a CPU.
    Default: what is there, but no CPU beside a GPU that torch does not find; `cpu` trains there."""
    mlflow_uri: str | None = None
    """MLflow tracking server; default: MLFLOW_TRACKING_URI, else SQLite in a local output
    folder."""


def run(
    context: Context,
    round: int,
    settings: TrainConfig,
    processes: int | None = None,
    mlflow_uri: str | None = None,
    ranks: Ranks = ALONE,
) -> Context:
    """Run the stage and return the context with the round's model, or as it is if the labels say
    nothing new.

    Raises:
        TrainError: there is nothing, or not enough of a class, to train on.
    """
    store, snapshot = context.store, context.snapshot
    if has_nothing_to_split(snapshot, round):
        return context
    if context.keeps_learned and store.is_there(context.published.get("models", round)):
        return _keep(context, round)  # a lost one is put together from its checkpoints
    init = initial_weights(settings, round)
    settings = named_by_content(settings, init)
    inputs = trained_on(context, round)
    asked, tracks = settings, snapshot.about("segments", LedgerSummary).labelled_train_tracks
    settings = settle_for_round(context, asked, inputs, round)
    planned = Manifest.plan("models", "train", records.dump(settings), inputs.values(), round)
    earlier = find_earlier(context, planned, inputs)
    if (
        earlier is not None
        and store.committed(planned) is None
        and learned_stands(context, earlier, inputs)
    ):
        tell(f"train {round}: what the published model learned from is as it was, so it stays")
        return context.add(
            store.commit_once(planned, lambda _: _taken_over(store.named(earlier.ref)))
        )

    def make(planned: Manifest) -> Made:
        check(snapshot, settings)
        if (asked.bag, asked.mixup_alpha) != (settings.bag, settings.mixup_alpha):
            how = f"on single segments, without mixup, {settings.epochs_of(0)} epochs in round 0"
            instead = '(plain_from = "none": on bags, with mixup)'
            console.print(
                f"{counted(tracks, 'labelled train track')}: trained {how} {instead}",
                soft_wrap=True,
            )
        check_size(settings.model, inputs["features"].settings(MelConfig, "cut"))
        start = inputs["models"].files[0] if round else None
        if init is not None:
            start = store.write_file(f"{planned.ref}/init.safetensors", init, rows=0)
        sharded, tables = None, inputs
        if settings.shards == "always":
            sharded = Sharded(*make_shards(context, round, settings))
            # What is in the files is in the shards: their names need not travel to processes.
            tables = {name: replace(manifest, files={}) for name, manifest in inputs.items()}
        training = Training(
            store=store,
            catalog=tables["catalog"],
            features=tables["features"],
            labels=tables["labels"],
            spec=model_spec(inputs["catalog"], inputs["features"], settings),
            config=settings,
            round=round,
            folder=planned.ref,
            start=start,
            device=device(),
            sharded=sharded,
        )
        with (
            nullcontext(context.tracker)
            if context.tracker
            else _tracked(store, planned, mlflow_uri) as told
        ):
            return _train(training, processes, told, ranks, inputs.values())

    return context.add(store.commit_once(planned, make))


def _keep(context: Context, round: int) -> Context:
    """Take the published model of a round over, whatever became of the labelled tracks that it
    learned from."""
    store = context.store
    published = context.published.get("models", round)
    inputs = trained_on(context, round)
    origin = origin_of(store, published)
    # Named otherwise than the model that training would make, unless that is the same.
    kept = {} if origin_stands(context, origin, inputs) else {KEPT_FROM: origin.ref}
    planned = Manifest.plan("models", "train", own_config(published) | kept, inputs.values(), round)
    return context.add(store.commit_once(planned, lambda _: _taken_over(published)))


def _taken_over(model: Manifest) -> Made:
    """Return the file of a model that was trained before."""
    summary = records.dump(ModelsSummary(model_id=model.about(ModelsSummary).model_id))
    if taken_down := taken_down_since(model):
        summary[TAKEN_DOWN] = taken_down
    return Made(dict(model.files), summary)


@contextmanager
def _tracked(store: Store, planned: Manifest, mlflow_uri: str | None) -> Iterator[Tracker]:
    """Open a run of MLflow for a stage that runs by itself."""
    key = digest_of([store.root, "train", planned.generation])[:12]
    tracker = Tracker(store, mlflow_uri, key, planned.config)
    with tracker.whole():
        yield tracker


def _train(
    training: Training,
    processes: int | None,
    tracker: Tracker | Untracked,
    ranks: Ranks,
    inputs: Iterable[Manifest],
) -> Made:
    """Train, telling screen and tracker how it goes, and write the model.

    The processes of members note their own CPU time, maybe before a restart; to it comes that of
    this one.
    """
    own_s, store = time.process_time(), training.store
    if training.device != "cpu":
        tell(f"training on {describe()}")
    with tracker.round(training.round, records.dump(training.config)) as log:
        with bar(f"train {training.round}", training.spec.members * training.epochs) as update:
            finished = itertools.count(1)

            def on_epoch(epoch: Epoch) -> None:
                update(next(finished), f"loss {epoch.loss:.3f}")
                losses = {"train_loss": epoch.loss, "left_out_loss": epoch.left_out_loss}
                log.log(
                    {f"member{epoch.member}_{name}": loss for name, loss in losses.items()},
                    step=epoch.epoch,
                )

            model = train(training, _processes(processes, training, ranks), on_epoch, ranks)
        data = dump(model)
        log.tag("sssl.model_id", model_id(data))
        for manifest in inputs:
            log.read(manifest, store.url(store.manifest_path(manifest.ref)))
    file = store.write_file(
        f"{training.folder}/model.safetensors", data, rows=training.spec.members
    )
    cpu_s = cpu_seconds(store, training.folder) + time.process_time() - own_s
    summary = ModelsSummary(cpu_s=cpu_s, model_id=model_id(data))
    return Made({0: file}, records.dump(summary), knows_cpu_s=True)


def check(snapshot: Snapshot, settings: TrainConfig) -> None:
    """Check that the segmented catalog has enough labelled tracks of each class.

    Raises:
        TrainError: it has not; the message says which class.
    """
    trainable, catalog = snapshot.about("segments", LedgerSummary).trainable, snapshot.catalog
    by_fold = {
        name: [trainable.get(name, {}).get(fold, 0) for fold in range(catalog.folds)]
        for name in catalog.classes
    }
    check_trainable(by_fold, settings.cross_fit)


def model_spec(catalog: Manifest, features: Manifest, settings: TrainConfig) -> ModelSpec:
    """Describe the model that fits the tables."""
    dealt = catalog.about(CatalogSummary)
    return ModelSpec(
        architecture=settings.model,
        classes=dealt.classes,
        cut=features.settings(MelConfig, "cut"),
        members=dealt.folds if settings.cross_fit else 1,
    )


def follow(processes: int | None, ranks: Ranks) -> None:
    """Train members for the first of the processes, which runs the stage, until it says that
    nothing is left."""
    while (training := ranks.told()) is not None:
        train_share(training, _processes(processes, training, ranks), ranks, report=lambda: None)
        ranks.wait()


def _processes(asked: int | None, training: Training, ranks: Ranks) -> int:
    # On a GPU one process has all members.
    mine = max(1, (asked or cores()) // ranks.count_here)
    return 1 if training.device != "cpu" else min(mine, training.spec.members)


def main(argv: Sequence[str]) -> int:
    def train_round(context: Context, config: Config) -> Context:
        return run(
            context, config.round, config.settings, config.processes, config.mlflow_uri, ranks
        )

    command = StageCommand(
        "train", Config, train_round, of_settings=lambda given: {"settings": given.method.train}
    )
    config, beam_args = command.parse(argv)
    try:
        if config.accelerator == "gpu":
            require_gpu("--accelerator gpu")
        if config.accelerator is None:
            refuse_cpu_beside_gpu("--accelerator cpu")
    except DeviceError as error:
        complain(error)
        return 1
    with joined() as ranks:
        if ranks.rank == 0:
            return command.execute(config, beam_args)
        follow(config.processes, ranks)
    return 0
