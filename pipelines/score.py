"""Score every segment with the model of a round.

sssl score --output OUTPUT --round R [flags] [-- beam options]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
import torch
import tyro
from apache_beam.ml.inference.base import ModelHandler, RunInference
from numpy.typing import NDArray

from pipelines.command import preset_of, stage
from pipelines.execute import in_process, run_job
from pipelines.flags import parse, split_beam_args
from pipelines.io import Job, PartRef
from pipelines.transforms import CommitParts, ListParts, SplitDone
from sssl.models import Model, load
from sssl.presets import PresetName
from sssl.rounds import has_nothing_to_split
from sssl.score import Room, ScoreConfig, cores, folds_of, posteriors, score_counts, scores_table
from sssl.store import Receipt, Snapshot, Store

Posteriors = tuple[PartRef, NDArray[np.float32]]


@dataclass(frozen=True)
class Config:
    """Score every segment with the model of a round."""

    output: str
    """Output folder of the train stage."""
    round: int
    """Round whose model scores."""
    preset: PresetName = "guarded"
    """Preset that the other flags' defaults come from: `guarded`, or `paper` for the method as published."""
    settings: ScoreConfig = field(default_factory=ScoreConfig)
    threads: int | None = None
    """Threads a worker; default: one a core where Beam runs in this process, else one."""
    accelerator: str | None = None
    """Accelerator that the scoring step, and no other, asks Dataflow for; default: none. For example
    `type:nvidia-l4;count:1;install-nvidia-driver`."""


class PartModelHandler(ModelHandler[PartRef, Posteriors, Model]):
    """RunInference over parts: a worker loads the model once, reads a part's tensors and returns posteriors."""

    def __init__(self, job: Job, settings: ScoreConfig, threads: int, accelerator: str | None = None) -> None:
        super().__init__(min_batch_size=1, max_batch_size=1)  # a part is a batch of batches already
        self._job, self._settings, self._threads, self._accelerator = job, settings, threads, accelerator
        self._room = Room(settings.score_batch)

    def load_model(self) -> Model:
        if self._accelerator and not torch.cuda.is_available():
            # Else it would be scored on a CPU, at the price of a GPU.
            raise RuntimeError(f"--accelerator {self._accelerator}: torch finds no GPU; does the driver fit its CUDA?")
        model = self._job.input("models")
        return load(self._job.store.read_bytes(model.files[0].path), _device())

    def run_inference(
        self, batch: Sequence[PartRef], model: Model, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Posteriors]:
        del inference_args  # part of the interface; our settings come with the handler
        for ref in batch:
            yield ref, self._posteriors(ref, model)

    def get_metrics_namespace(self) -> str:
        return "sssl-score"

    def _posteriors(self, ref: PartRef, model: Model) -> NDArray[np.float32]:
        segments = self._job.read(ref, "segments", ["track_id", "log_mel"])
        if not len(segments):
            return np.empty((0, len(self._job.classes)), np.float32)
        folds = folds_of(segments["track_id"].to_pylist(), self._job.tracks(ref), self._settings)
        log_mel = segments["log_mel"].combine_chunks().to_numpy_ndarray()
        return posteriors(model, log_mel, folds, self._settings, _device(), self._threads, self._room)


def build(root: beam.Pipeline, job: Job, settings: ScoreConfig, threads: int, accelerator: str | None = None) -> None:
    """Wire the pipeline."""
    parts = root | ListParts(job) | SplitDone(job)
    infer = RunInference(PartModelHandler(job, settings, threads, accelerator))
    if accelerator is not None:
        infer = infer.with_resource_hints(accelerator=accelerator)
    scored = parts.todo | infer | beam.Map(write_scores, job)
    (parts.done, scored) | CommitParts(job)


def write_scores(scored: Posteriors, job: Job) -> Receipt:
    """Write the scores of a part."""
    (ref, probabilities), tracks, round = scored, job.tracks(scored[0]), job.round
    assert round is not None
    segments = job.read(ref, "segments", ["track_id", "segment_index"])
    scores = scores_table(segments, probabilities, tracks, job.classes, round, job.input("models").summary["model_id"])
    return job.write(ref.part, {"scores": scores}, score_counts(scores, tracks, job.classes))


def run(store: Store, snapshot: Snapshot, config: Config, beam_args: Sequence[str]) -> Snapshot:
    """Run the stage; return the snapshot with the round's scores, or as it is if there was nothing new to train on."""
    if has_nothing_to_split(snapshot, config.round):
        return snapshot
    inputs = [snapshot.get("catalog"), snapshot.get("segments"), snapshot.get("models", config.round)]
    job = Job.of(store, "score", ("scores",), asdict(config.settings), inputs, config.round)
    threads = config.threads or (cores() if in_process(beam_args) else 1)
    (scores,) = run_job(job, lambda root: build(root, job, config.settings, threads, config.accelerator), beam_args)
    return snapshot.add(scores)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def main(argv: Sequence[str]) -> int:
    flags, beam_args = split_beam_args(argv)
    name, preset = preset_of(flags)
    config = parse(Config, flags, "score", output=tyro.MISSING, round=tyro.MISSING, preset=name, settings=preset.score)
    return stage(config, run, beam_args)
