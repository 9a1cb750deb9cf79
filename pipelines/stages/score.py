"""Score every segment with the model of a round.

sssl score --output OUTPUT --round R [flags] [-- beam options]
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Annotated, Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler, RunInference
from numpy.typing import NDArray

from pipelines.beam.execute import in_process, run_job
from pipelines.beam.job import Job, PartRef
from pipelines.beam.mass import MassFailure
from pipelines.beam.transforms import CommitParts, ListParts, SplitDone
from pipelines.beam.tries import MOST_TRIES, Tries
from pipelines.stages.accelerator import require_accelerator
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.stages.score_part import (
    PartScores,
    WriterProcesses,
    known_scores,
    without_known,
    write,
)
from pipelines.stages.settings_file import IN_FILE, Source
from pipelines.stages.standing import find_earlier
from schemas import Catalog
from schemas.reasons import PART_FAILED
from schemas.records import dump
from sssl.config import require
from sssl.errors import StoreError
from sssl.model.ensemble import load
from sssl.model.score import posteriors
from sssl.model.scores import folds_of
from sssl.model.settings import ScoreConfig
from sssl.model.streaming.scorer import GPU_BATCH, MOST_READERS, Rows, StreamScorer
from sssl.runtime.ahead import results_in_order
from sssl.runtime.device import describe, gpus, require_gpu
from sssl.runtime.machine import cores
from sssl.store.manifest import Receipt
from sssl.store.rounds import has_nothing_to_split
from sssl.store.tensors import log_mels

LOGGER = logging.getLogger(__name__)
_PARTS_AT_ONCE = 256
"""Parts that a worker takes at once, so that it need not stop between them. Each is done when it is
written."""


@dataclass(frozen=True)
class Placement:
    """Where the model runs, how often it is loaded, and how many parts may be given up."""

    threads: int | None = None
    """Threads per worker; default: one per core if Beam runs in this process, else one."""
    large_model: bool = False
    """Load the model once per machine instead of once per worker process, of which Dataflow starts
    one per vCPU."""
    model_copies: int | None = None
    """Load it exactly so many times per machine."""
    accelerator: str | None = None
    """Accelerator, and machine, that the scoring step, and no other, asks Dataflow for; default:
    none. For example `type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver`."""

    max_error_ratio: float = 0.5
    """Share of parts that may end their workers three times before the job stops. Their tracks have
    no scores then, and the next delivery tries them again. A part with labels is never given up."""

    def __post_init__(self) -> None:
        copies = self.model_copies
        require(copies is None or copies > 0, "model_copies", copies, "1 or more")
        require_accelerator(self.accelerator)


ANYWHERE = Placement()


@dataclass(frozen=True)
class Config:
    """Score every segment with the model of a round."""

    output: str
    """Output folder of the train stage."""
    round: int
    """Round whose model scores."""
    source: Source = field(default_factory=Source)
    settings: Annotated[ScoreConfig, IN_FILE] = field(default_factory=ScoreConfig)
    placement: Placement = field(default_factory=Placement)


class _About(NamedTuple):
    """A part while it is scored: the keys of its segments, its tracks, and the scores that are
    known already."""

    segments: pa.Table
    tracks: list[Catalog]
    known: pa.Table | None


class PartScorer:
    """A model on its devices, which scores parts. Processes may share it, so it takes and returns
    little."""

    def __init__(
        self,
        job: Job,
        settings: ScoreConfig,
        accelerator: str | None,
        threads: int,
        tries: Tries | None = None,
    ) -> None:
        if accelerator:
            require_gpu(f"--accelerator {accelerator}")
        self._tries = tries
        self._mass = MassFailure(
            "score", "a model that gives no posteriors has to be trained again"
        )
        self._job = job
        self._settings = settings
        self._threads = threads
        self._model = load(job.store.read_file(job.input("models").files[0]))
        self._gpus = gpus()
        self._writers = WriterProcesses() if self._gpus else None
        self._turn = Lock()
        LOGGER.info("scoring on %s", describe())

    def score(self, refs: Sequence[PartRef]) -> list[Receipt]:
        """Score parts, and write their scores; who comes meanwhile waits.

        Parts that are done since they were listed, by a bundle that is tried again, stay as they
        are.
        """
        with self._turn:
            found = {ref.part: self._job.receipt(ref.part) for ref in refs}
            todo = [ref for ref in refs if found[ref.part] is None]
            made = self._scored(todo) if self._tries is None else self._tried(todo, self._tries)
        return [receipt for receipt in found.values() if receipt is not None] + made

    def _tried(self, refs: Sequence[PartRef], tries: Tries) -> list[Receipt]:
        """Score parts where workers may die and an engine tries again."""
        by_tries = tries.sort(refs)
        made = self._scored(by_tries.fresh)
        made += [receipt for ref in by_tries.begun for receipt in self._scored([ref])]
        return made + [self._give_up(ref, tries) for ref in by_tries.lost]

    def _scored(self, refs: Sequence[PartRef]) -> list[Receipt]:
        return self._on_gpus(refs) if self._gpus else self._on_cpu(refs)

    def _give_up(self, ref: PartRef, tries: Tries) -> Receipt:
        """Write rows without scores, since they are aligned with those of the segments.

        A part with labels is not given up: a verdict compares two rounds on the same tracks.

        Raises:
            StoreError: the part has labels, or too many parts are given up.
        """
        _, about = self._inputs(ref)
        if any(track.label is not None for track in about.tracks):
            raise StoreError(
                f"score: part {ref.part}, which has labels, ended its workers {MOST_TRIES} times: "
                "look at their logs and at their memory; the same command goes on from here"
            )
        tries.give_up(ref.part)
        rows = len(without_known(about.segments, about.known))
        nothing = np.full((rows, len(self._job.classes)), np.nan, np.float32)
        scores = PartScores(
            self._job, ref.part, about.segments, about.tracks, nothing, about.known, PART_FAILED
        )
        return write(scores)

    def _on_gpus(self, refs: Sequence[PartRef]) -> list[Receipt]:
        scorer = StreamScorer(
            self._model,
            self._gpus,
            self._settings.views,
            max(self._settings.score_batch, GPU_BATCH),
            readers=max(1, min(MOST_READERS, cores() * 3 // 4)),
        )
        return scorer.score(refs, self._read, self._write)

    def _on_cpu(self, refs: Sequence[PartRef]) -> list[Receipt]:
        """Score one part after the other; the next one is read meanwhile."""
        with ThreadPoolExecutor(1) as thread:
            read = results_in_order(lambda ref: thread.submit(self._read, ref), refs, ahead=1)
            parts = zip(refs, read, strict=True)
            return [self._write(ref, part.about, self._posteriors(part)) for ref, part in parts]

    def _posteriors(self, part: Rows) -> NDArray[np.float32]:
        return posteriors(self._model, part.log_mel, part.folds, self._settings, self._threads)

    def _read(self, ref: PartRef) -> Rows:
        if self._tries is not None:
            self._tries.begin(ref.part)
        with self._blameless(ref):
            features, about = self._inputs(ref)
        todo = without_known(features, about.known)
        return Rows(log_mels(todo), folds_of(todo, about.tracks, self._settings), about)

    def _inputs(self, ref: PartRef) -> tuple[pa.Table, _About]:
        """Read a part: its features, and what its scores are written with."""
        features = self._job.read(ref, "features", ["track_id", "segment_index", "log_mel"])
        tracks = self._job.tracks(ref)
        known = known_scores(self._job, ref, features, tracks)
        return features, _About(features.select(["track_id", "segment_index"]), tracks, known)

    def _write(self, ref: PartRef, about: _About, found: NDArray[np.float32]) -> Receipt:
        scores = PartScores(self._job, ref.part, about.segments, about.tracks, found, about.known)
        with self._blameless(ref):
            receipt = write(scores) if self._writers is None else self._writers.write(scores)
        lacking: dict[str, int] = receipt.counts.get("reasons", {})
        self._mass.add(len(about.tracks), Counter(lacking).elements())
        return receipt

    def _blameless(self, ref: PartRef) -> AbstractContextManager[None]:
        return nullcontext() if self._tries is None else self._tries.blameless(ref.part)


class PartModelHandler(ModelHandler[PartRef, Receipt, PartScorer]):
    """RunInference over parts: a worker loads the model once, and writes the scores of parts that
    it reads."""

    def __init__(
        self,
        job: Job,
        settings: ScoreConfig,
        placement: Placement,
        threads: int,
        tries: Tries | None = None,
    ) -> None:
        super().__init__(
            min_batch_size=_PARTS_AT_ONCE,
            max_batch_size=_PARTS_AT_ONCE,
            large_model=placement.large_model,
            model_copies=placement.model_copies,
        )
        self._job = job
        self._settings = settings
        self._accelerator = placement.accelerator
        self._threads = threads
        self._tries = tries

    def load_model(self) -> PartScorer:
        return PartScorer(self._job, self._settings, self._accelerator, self._threads, self._tries)

    def run_inference(
        self,
        batch: Sequence[PartRef],
        model: PartScorer,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[Receipt]:
        del inference_args  # part of the interface; our settings come with the handler
        return model.score(batch)

    def get_metrics_namespace(self) -> str:
        return "sssl-score"


def build(
    root: beam.Pipeline,
    job: Job,
    settings: ScoreConfig,
    placement: Placement,
    threads: int,
    tries: Tries | None = None,
) -> None:
    """Wire the pipeline. Where workers may die and are tried again, `tries` says how often."""
    parts = root | ListParts(job) | SplitDone(job)
    infer = RunInference(PartModelHandler(job, settings, placement, threads, tries))
    if placement.accelerator is not None:
        infer = infer.with_resource_hints(accelerator=placement.accelerator)
    (parts.done, parts.todo | infer) | CommitParts(job)


def run(
    context: Context, round: int, settings: ScoreConfig, placement: Placement = ANYWHERE
) -> Context:
    """Run the stage; return the context with the round's scores, or as it is if there was nothing
    new to train on."""
    snapshot = context.snapshot
    if has_nothing_to_split(snapshot, round):
        return context
    named = {
        "catalog": snapshot.get("catalog"),
        "models": snapshot.get("models", round),
        "features": snapshot.features,
    }
    job = Job.of(context.store, "score", ("scores",), dump(settings), [], round, named)
    job = replace(job, earlier=find_earlier(context, job.planned[0], named))
    is_here = in_process(context.beam_args)
    threads = placement.threads or (cores() if is_here else 1)
    tries = None if is_here else Tries.of(job, placement.max_error_ratio)
    scored = run_job(
        job, lambda root: build(root, job, settings, placement, threads, tries), context.beam_args
    )
    return context.add(*scored)


main = StageCommand(
    "score",
    Config,
    lambda context, config: run(context, config.round, config.settings, config.placement),
    of_settings=lambda given: {"settings": given.method.score},
).main
