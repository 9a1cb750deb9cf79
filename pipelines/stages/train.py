"""Train the model of a round on the round's labels, logged in MLflow. Plain PyTorch; the only stage without Beam.

sssl train --output OUTPUT --round R [flags]
torchrun --nproc-per-node GPUS -m pipelines.cli train --output OUTPUT --round R [flags]
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial

import fsspec
import tyro

from pipelines.stages.command import preset_of, stage
from pipelines.terminal.console import bar
from pipelines.terminal.flags import parse, split_beam_args
from sssl.audio.mel import MelConfig
from sssl.errors import TrainError
from sssl.model.distributed import ALONE, Ranks, joined
from sssl.model.ensemble import ModelSpec, dump, load, model_id
from sssl.model.score import device
from sssl.model.settings import TrainConfig
from sssl.model.train import Epoch, Training, check_size, check_trainable, cpu_seconds, train, train_share
from sssl.presets import PresetName
from sssl.runtime.machine import cores
from sssl.store.folder import Manifest, Snapshot, Store, digest_of, generation_name
from sssl.store.rounds import has_nothing_to_split, last_accepted
from sssl.tracking.tracker import Tracker, Untracked, without_secrets


@dataclass(frozen=True)
class Config:
    """Train the model of a round on the round's labels."""

    output: str
    """Output folder of the relabel stage."""
    round: int
    """Round to train: 0 from random weights or `--init`, later ones from the last accepted model."""
    preset: PresetName = "guarded"
    """Preset that the other flags' defaults come from: `guarded`, or `paper` for the method as published."""
    settings: TrainConfig = field(default_factory=TrainConfig)
    processes: int | None = None
    """Members that train at the same time on a CPU; default: one a core."""
    mlflow_uri: str | None = None
    """MLflow tracking server; default: MLFLOW_TRACKING_URI, else SQLite in a local output folder."""


def run(
    store: Store,
    snapshot: Snapshot,
    config: Config,
    _beam_args: Sequence[str] = (),
    tracker: Tracker | Untracked | None = None,
    ranks: Ranks = ALONE,
) -> Snapshot:
    """Run the stage and return the snapshot with the round's model, or as it is if the labels say nothing new.

    Raises:
        TrainError: there is nothing, or not enough of a class, to train on.
    """
    if has_nothing_to_split(snapshot, config.round):
        return snapshot
    init = None if config.round or config.settings.init is None else read_weights(config.settings.init)
    # Named by its content: a path says neither what is in the file nor, with a signature in it, is it for every eye.
    settings = replace(config.settings, init=None if init is None else model_id(init))
    inputs = {table: snapshot.get(table) for table in ("catalog", "segments")} | {
        "labels": snapshot.get("labels", config.round)
    }
    if config.round:
        inputs["models"] = snapshot.get("models", last_accepted(store, snapshot, before=config.round).round)
    generation = generation_name("train", config.round, asdict(settings), inputs.values())
    committed = store.manifest("models", generation)
    if committed is not None:
        return snapshot.add(committed)

    check(snapshot, settings)
    check_size(settings.model, MelConfig(**inputs["segments"].config["cut"]))
    start = inputs["models"].files[0].path if config.round else None
    if init is not None:
        start = store.write_file(f"models/{generation}/init.safetensors", init, rows=0).path
    training = Training(
        store=store,
        catalog=inputs["catalog"],
        segments=inputs["segments"],
        labels=inputs["labels"],
        spec=model_spec(inputs["catalog"], inputs["segments"], settings),
        config=settings,
        round=config.round,
        folder=f"models/{generation}",
        start=start,
        device=device(),
    )
    with nullcontext(tracker) if tracker else _tracked(store, config, generation, settings) as told:
        data = _train(training, config, told, ranks, inputs.values())
        file = store.write_file(f"models/{generation}/model.safetensors", data, rows=training.spec.members)
        manifest = Manifest(
            table="models",
            generation=generation,
            stage="train",
            round=config.round,
            config=asdict(settings),
            parents=tuple(sorted(manifest.ref for manifest in inputs.values())),
            files={0: file},
            summary={"model_id": model_id(data), "cpu_s": cpu_seconds(store, f"models/{generation}")},
        )
        return snapshot.add(store.commit(manifest))


@contextmanager
def _tracked(store: Store, config: Config, generation: str, settings: TrainConfig) -> Iterator[Tracker]:
    """Open a run of MLflow for a stage that runs by itself."""
    key = digest_of([store.root, "train", generation])[:12]
    tracker = Tracker(store, config.mlflow_uri, key, asdict(settings))
    with tracker.whole():
        yield tracker


def _train(
    training: Training, config: Config, tracker: Tracker | Untracked, ranks: Ranks, inputs: Iterable[Manifest]
) -> bytes:
    """Train, telling screen and tracker how it goes; return the model as a file has it."""
    with tracker.round(config.round, asdict(training.config)) as log:
        with bar(f"train {config.round}", training.spec.members * training.epochs) as update:
            finished = itertools.count(1)

            def on_epoch(epoch: Epoch) -> None:
                update(next(finished), f"loss {epoch.loss:.3f}")
                losses = {"train_loss": epoch.loss, "left_out_loss": epoch.left_out_loss}
                log.log({f"member{epoch.member}_{name}": loss for name, loss in losses.items()}, step=epoch.epoch)

            model = train(training, _processes(config, training, ranks), on_epoch, ranks)
        data = dump(model)
        log.tag("sssl.model_id", model_id(data))
        for manifest in inputs:
            log.read(manifest, training.store.url(f"{manifest.ref}/manifest.json"))
    return data


def check(snapshot: Snapshot, settings: TrainConfig) -> None:
    """Check that the segmented catalog has enough labelled tracks of each class.

    Raises:
        TrainError: it has not; the message says which class.
    """
    usable, catalog = snapshot.get("segments").summary, snapshot.get("catalog").summary
    by_fold = {
        name: [int(usable.get(f"trainable/{name}/{fold}", 0)) for fold in range(catalog["folds"])]
        for name in catalog["classes"]
    }
    check_trainable(by_fold, settings.cross_fit)


@lru_cache(maxsize=1)  # `sssl run` names them before it trains; what it named is what it starts from
def read_weights(url: str) -> bytes:
    """Read a model file of ours from a path or any fsspec URL.

    Raises:
        TrainError: there is none.
    """
    try:
        with fsspec.open(url, "rb") as file:
            data: bytes = file.read()
        load(data)
    except Exception as error:  # noqa: BLE001
        # What file systems and torch raise has no end, and a message may carry a signed URL.
        why = str(error) if "://" not in url else type(error).__name__
        raise TrainError(f"--init {without_secrets(url)}: {why}") from None
    return data


def model_spec(catalog: Manifest, segments: Manifest, settings: TrainConfig) -> ModelSpec:
    """Describe the model that fits the tables."""
    return ModelSpec(
        architecture=settings.model,
        classes=tuple(catalog.summary["classes"]),
        cut=MelConfig(**segments.config["cut"]),
        members=catalog.summary["folds"] if settings.cross_fit else 1,
    )


def follow(config: Config, ranks: Ranks) -> None:
    """Train members for the first of the processes, which runs the stage, until it says that nothing is left."""
    while (training := ranks.told()) is not None:
        train_share(training, _processes(config, training, ranks), ranks, report=lambda: None)
        ranks.wait()


def _processes(config: Config, training: Training, ranks: Ranks) -> int:
    # Members would only share a GPU, so they take turns on it.
    mine = max(1, (config.processes or cores()) // ranks.count_here)
    return 1 if training.device != "cpu" else min(mine, training.spec.members)


def main(argv: Sequence[str]) -> int:
    flags, beam_args = split_beam_args(argv)
    name, preset = preset_of(flags)
    config = parse(Config, flags, "train", output=tyro.MISSING, round=tyro.MISSING, preset=name, settings=preset.train)
    with joined() as ranks:
        if ranks.rank == 0:
            return stage(config, partial(run, ranks=ranks), beam_args)
        follow(config, ranks)
    return 0
