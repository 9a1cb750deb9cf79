"""Embed every segment by a pretrained network, the front-end.

sssl embed --output OUTPUT --front-end onnx:PATH [flags] [-- beam options]

Embeddings are named after weights and contract. A track whose segments are as they were keeps its
own, and what learns from embeddings never makes them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference

from pipelines.beam.earlier import Earlier
from pipelines.beam.execute import in_process, run_job
from pipelines.beam.job import Job, PartRef
from pipelines.beam.transforms import CommitParts, ListParts, SplitDone
from pipelines.beam.tries import Tries
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.stages.embed_part import Before, PartEmbedder, Placement, Task
from pipelines.terminal.console import tell
from schemas.summaries import EmbeddingsSummary
from sssl.audio.mel import MelConfig
from sssl.embedding.contract import FrontEnd
from sssl.embedding.embedder import Embedder
from sssl.embedding.settings import RETRIED, EmbedConfig, Origin, without_history
from sssl.embedding.table import is_never_finite, require_finite
from sssl.runtime.machine import cores
from sssl.store.folder import Store
from sssl.store.layout import ref_of_manifest
from sssl.store.manifest import Manifest, Receipt

_PARTS_AT_ONCE = 256
"""Parts that a worker takes at once, so that it need not stop between them. Each is done when it is
written."""


@dataclass(frozen=True)
class Config:
    """Embed every segment by a pretrained network."""

    output: str
    """Output folder of the segment stage."""
    settings: EmbedConfig = field(default_factory=EmbedConfig)
    retry: bool = False
    """Try again what has no embedding, such as tracks whose file could not be read."""
    placement: Placement = field(default_factory=Placement)


class PartModelHandler(ModelHandler[PartRef, Receipt, PartEmbedder]):
    """RunInference over parts: a worker loads the front-end once, and writes the embeddings of
    parts."""

    def __init__(self, task: Task, threads: int, processes: int) -> None:
        super().__init__(min_batch_size=_PARTS_AT_ONCE, max_batch_size=_PARTS_AT_ONCE)
        self._task = task
        self._threads = threads
        self._processes = processes

    def load_model(self) -> PartEmbedder:
        return PartEmbedder(self._task, self._threads, self._processes)

    def run_inference(
        self,
        batch: Sequence[PartRef],
        model: PartEmbedder,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterable[Receipt]:
        del inference_args  # part of the interface; our settings come with the handler
        return list(model.embed(batch))

    def get_metrics_namespace(self) -> str:
        return "sssl-embed"


def build(root: beam.Pipeline, task: Task, threads: int, processes: int) -> None:
    """Wire the pipeline."""
    job = task.job
    accelerator = task.placement.accelerator
    parts = root | ListParts(job) | SplitDone(job)
    infer = RunInference(PartModelHandler(task, threads, processes))
    if accelerator is not None:
        infer = infer.with_resource_hints(accelerator=accelerator)
    origin = root | "Origin" >> beam.Create([Origin.of(task.front_end)])
    (parts.done, parts.todo | infer) | CommitParts(job, origin)


def check(settings: EmbedConfig, segment_s: float) -> FrontEnd:
    """Check that a front-end can be loaded, embeds segments of such a length, and may be used.

    Raises:
        FrontEndError: it does not; the message says why.
        ImportError: what runs it is not installed.
    """
    front_end = settings.admitted()
    Embedder(front_end, segment_s, threads=1).check()
    return front_end


def run(
    context: Context, front_end: FrontEnd, placement: Placement | None = None, retry: bool = False
) -> Context:
    """Run the stage with a front-end that was checked, and return the context with the embeddings.

    Raises:
        FrontEndError: none of the embeddings is finite.
    """
    tell(f"front-end {front_end.name}: {front_end.licence}")
    inputs = [context.snapshot.get("catalog"), context.snapshot.get("segments")]
    known = _known(context.store, front_end, inputs[1])
    attempts = [made for made in known if _is_of(made, inputs)]
    done = None
    if attempts:
        # After a retry in vain all that was made from the embeddings before it stands.
        done = next(made for made in attempts if made.digest == attempts[-1].digest)
        if not (retry and done.about(EmbeddingsSummary).missing):
            tell("embed: done before")
            return context.add(_usable(done))
    task = _task(context, front_end, placement or Placement(), retry, known, attempts)
    here = cores() if in_process(context.beam_args) else 1
    threads = task.placement.threads or here
    processes = task.placement.processes or here
    (made,) = run_job(
        task.job, lambda root: build(root, task, threads, processes), context.beam_args
    )
    if done is not None and made.digest == done.digest:
        return context.add(_usable(done))
    return context.add(_usable(made))


def _usable(embeddings: Manifest) -> Manifest:
    require_finite(embeddings.about(Origin).name, embeddings.about(EmbeddingsSummary))
    return embeddings


def _task(
    context: Context,
    front_end: FrontEnd,
    placement: Placement,
    retry: bool,
    known: Sequence[Manifest],
    attempts: Sequence[Manifest],
) -> Task:
    """Put together what workers are told, from embeddings that are known by the same front-end and
    those of them that are of these very segments."""
    inputs = [context.snapshot.get("catalog"), context.snapshot.get("segments")]
    history = {}
    last = max(known, key=lambda made: made.created_at, default=None)
    if attempts:
        last = attempts[-1]
        history = {RETRIED: _retries(last) + 1}
        if is_never_finite(last.about(EmbeddingsSummary)):
            last = None  # none of it can be kept
    config = front_end.of_rows() | history
    job = Job.of(context.store, "embed", ("embeddings",), config, inputs)
    if last is not None and not retry:
        job = replace(job, earlier=_earlier(context.store, last))
    before = None if last is None else _before(last)
    tries = None  # in this process nobody tries again
    if not in_process(context.beam_args):
        tries = Tries.of(job, placement.max_error_ratio)
    return Task(job, front_end, before, retry, placement, tries)


def _known(store: Store, front_end: FrontEnd, segments: Manifest) -> list[Manifest]:
    """List embeddings by the same front-end of segments that were cut alike, the last ones last."""
    config = front_end.of_rows()
    refs = (ref_of_manifest(path) for path in store.find("embeddings"))
    found = (store.manifest_if_whole(ref) for ref in refs if ref is not None)
    alike = [made for made in found if made is not None and without_history(made.config) == config]
    usable = [made for made in alike if store.is_there(made) and _is_cut_as(store, made, segments)]
    return sorted(usable, key=lambda made: (_retries(made), made.created_at, made.ref))


def _retries(embeddings: Manifest) -> int:
    return int(embeddings.config.get(RETRIED, 0))


def _is_cut_as(store: Store, embeddings: Manifest, segments: Manifest) -> bool:
    before = _before(embeddings)
    own = store.manifest_if_whole(before.segments) if before else None
    return own is not None and own.config.get("cut") == segments.config["cut"]


def _is_of(embeddings: Manifest, inputs: Sequence[Manifest]) -> bool:
    return set(embeddings.parents) == {manifest.ref for manifest in inputs}


def _before(embeddings: Manifest) -> Before | None:
    segments = [ref for ref in embeddings.parents if ref.startswith("segments/")]
    if segments:
        return Before(embeddings.ref, segments[0])
    return None


def _earlier(store: Store, embeddings: Manifest) -> Earlier | None:
    """Return embeddings as those that parts whose segments did not change are taken over from."""
    inputs = {ref.partition("/")[0]: ref for ref in embeddings.parents}
    if not all(map(store.manifest_if_whole, inputs.values())):
        return None  # a takedown deletes what is not published
    return Earlier(embeddings.ref, inputs, {"embeddings": embeddings.ref})


def _run(context: Context, config: Config) -> Context:
    segment_s = context.snapshot.get("segments").settings(MelConfig, "cut").segment_s
    return run(context, check(config.settings, segment_s), config.placement, config.retry)


main = StageCommand("embed", Config, _run).main
