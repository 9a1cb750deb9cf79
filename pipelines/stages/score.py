"""Score every segment with the model of a round.

sssl score --output OUTPUT --round R [flags] [-- beam options]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler, RunInference
from numpy.typing import NDArray

from pipelines.beam.execute import in_process, run_job
from pipelines.beam.job import Job, PartRef
from pipelines.beam.transforms import CommitParts, ListParts, SplitDone
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from schemas.records import dump
from schemas.summaries import ModelsSummary
from sssl.config import require
from sssl.model.ensemble import load
from sssl.model.score import Room, device, posteriors
from sssl.model.scores import folds_of, scores_table, summarize_scores
from sssl.model.settings import ScoreConfig
from sssl.presets import PresetName
from sssl.runtime.machine import cores
from sssl.store.manifest import Receipt
from sssl.store.rounds import has_nothing_to_split

Posteriors = tuple[PartRef, NDArray[np.float32]]
Item = TypeVar("Item")
Result = TypeVar("Result")
_PARTS_AT_ONCE = 4
"""Parts that a worker takes at once, to read one while it scores another."""


@dataclass(frozen=True)
class Placement:
    """Where the model runs, and how often it is loaded: no row depends on it."""

    threads: int | None = None
    """Threads a worker; default: one a core where Beam runs in this process, else one."""
    large_model: bool = False
    """Load the model once a machine instead of once a worker process, of which Dataflow starts one a vCPU."""
    model_copies: int | None = None
    """Load it exactly so many times a machine."""
    accelerator: str | None = None
    """Accelerator that the scoring step, and no other, asks Dataflow for; default: none. For example
    `type:nvidia-l4;count:1;install-nvidia-driver`."""

    def __post_init__(self) -> None:
        copies = self.model_copies
        require(copies is None or copies > 0, "model_copies", copies, "1 or more")


ANYWHERE = Placement()


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
    placement: Placement = field(default_factory=Placement)


class PartScorer:
    """A model on its device, which scores parts. Processes may share it, so it takes and returns little."""

    def __init__(self, job: Job, settings: ScoreConfig, accelerator: str | None, threads: int) -> None:
        if accelerator and device() == "cpu":
            # Else it would be scored on a CPU, at the price of a GPU.
            raise RuntimeError(f"--accelerator {accelerator}: torch finds no GPU; does the driver fit its CUDA?")
        self._job, self._settings, self._threads = job, settings, threads
        self._room = Room(settings.score_batch)
        self._model = load(job.store.read_bytes(job.input("models").files[0].path), device())

    def posteriors(self, refs: Sequence[PartRef]) -> list[NDArray[np.float32]]:
        """Return the posteriors of each part's segments; a part is read while the one before is scored."""
        return [self._score(ref, segments) for ref, segments in zip(refs, ahead(self._read, refs), strict=True)]

    def _read(self, ref: PartRef) -> pa.Table:
        return self._job.read(ref, "segments", ["track_id", "log_mel"])

    def _score(self, ref: PartRef, segments: pa.Table) -> NDArray[np.float32]:
        if not len(segments):
            return np.empty((0, len(self._job.classes)), np.float32)
        folds = folds_of(segments["track_id"].to_pylist(), self._job.tracks(ref), self._settings)
        log_mel = segments["log_mel"].combine_chunks().to_numpy_ndarray()
        return posteriors(self._model, log_mel, folds, self._settings, device(), self._threads, self._room)


def ahead(load: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Load items in a thread, one of them ahead of whoever takes them."""
    with ThreadPoolExecutor(1) as thread:
        loading: deque[Future[Result]] = deque()
        for item in items:
            loading.append(thread.submit(load, item))
            if len(loading) > 1:
                yield loading.popleft().result()
        while loading:
            yield loading.popleft().result()


class PartModelHandler(ModelHandler[PartRef, Posteriors, PartScorer]):
    """RunInference over parts: a worker loads the model once, reads parts' tensors and returns posteriors."""

    def __init__(self, job: Job, settings: ScoreConfig, placement: Placement, threads: int) -> None:
        super().__init__(
            min_batch_size=1,
            max_batch_size=_PARTS_AT_ONCE,
            large_model=placement.large_model,
            model_copies=placement.model_copies,
        )
        self._job, self._settings, self._accelerator = job, settings, placement.accelerator
        self._threads = threads

    def load_model(self) -> PartScorer:
        return PartScorer(self._job, self._settings, self._accelerator, self._threads)

    def run_inference(
        self, batch: Sequence[PartRef], model: PartScorer, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Posteriors]:
        del inference_args  # part of the interface; our settings come with the handler
        return zip(batch, model.posteriors(batch), strict=True)

    def get_metrics_namespace(self) -> str:
        return "sssl-score"


def build(root: beam.Pipeline, job: Job, settings: ScoreConfig, placement: Placement, threads: int) -> None:
    """Wire the pipeline."""
    parts = root | ListParts(job) | SplitDone(job)
    infer = RunInference(PartModelHandler(job, settings, placement, threads))
    if placement.accelerator is not None:
        infer = infer.with_resource_hints(accelerator=placement.accelerator)
    scored = parts.todo | infer | beam.Map(write_scores, job)
    (parts.done, scored) | CommitParts(job)


def write_scores(scored: Posteriors, job: Job) -> Receipt:
    """Write the scores of a part."""
    (ref, probabilities), tracks, round = scored, job.tracks(scored[0]), job.round
    assert round is not None
    segments = job.read(ref, "segments", ["track_id", "segment_index"])
    model_id = job.input("models").about(ModelsSummary).model_id
    scores = scores_table(segments, probabilities, tracks, job.classes, round, model_id)
    return job.write(ref.part, {"scores": scores}, summarize_scores(scores, tracks, job.classes))


def run(context: Context, round: int, settings: ScoreConfig, placement: Placement = ANYWHERE) -> Context:
    """Run the stage; return the context with the round's scores, or as it is if there was nothing new to train on."""
    snapshot = context.snapshot
    if has_nothing_to_split(snapshot, round):
        return context
    inputs = [snapshot.get("catalog"), snapshot.get("segments"), snapshot.get("models", round)]
    job = Job.of(context.store, "score", ("scores",), dump(settings), inputs, round)
    threads = placement.threads or (cores() if in_process(context.beam_args) else 1)
    scored = run_job(job, lambda root: build(root, job, settings, placement, threads), context.beam_args)
    return context.add(*scored)


main = StageCommand(
    "score",
    Config,
    lambda context, config: run(context, config.round, config.settings, config.placement),
    of_preset=lambda preset: {"settings": preset.score},
).main
