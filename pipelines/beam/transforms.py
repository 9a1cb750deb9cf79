"""Wiring that the jobs share. Elements are part references and receipts; tensors never cross a
shuffle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from pipelines.beam.counters import count_kept, count_part
from pipelines.beam.job import Job, PartRef
from sssl.store.manifest import Receipt

READERS = 64
"""Receipts that are read at a time."""
_RECEIPTS_AT_ONCE = 1024


@dataclass
class ListParts(beam.PTransform):
    """Parts of a job but those that it takes over, spread over the workers."""

    job: Job

    def expand(self, root: beam.Pipeline) -> beam.PCollection[PartRef]:
        listed = root | beam.Create([self.job]) | beam.FlatMap(_list_parts)
        return listed | beam.Reshuffle()


@dataclass
class SplitDone(beam.PTransform):
    """Parts that are still to do (`todo`), and the receipts of those that an earlier run finished
    (`done`)."""

    job: Job

    def expand(self, parts: beam.PCollection[PartRef]) -> beam.pvalue.DoOutputsTuple:
        return parts | beam.ParDo(ReadReceipts(self.job)).with_outputs("done", main="todo")


class ReadReceipts(beam.DoFn):
    """Tell the parts of a bundle that are done by their receipts.

    Receipts that were there at the start are read many at once: a relaunch after a late failure
    finds hundreds of thousands. Any other part goes on at once, after a look of its own: a bundle
    that is tried again finds what it did before.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        self._there = self._job.receipts_there()

    def start_bundle(self) -> None:
        self._waiting: list[PartRef] = []

    def process(self, ref: PartRef) -> Iterator[Any]:
        if ref.part not in self._there:
            yield from todo_or_done([ref], self._job)
            return
        self._waiting.append(ref)
        if len(self._waiting) >= _RECEIPTS_AT_ONCE:
            yield from todo_or_done(self._waiting, self._job)
            self._waiting = []

    def finish_bundle(self) -> Iterator[Any]:
        for found in todo_or_done(self._waiting, self._job):
            if isinstance(found, PartRef):
                yield GlobalWindows.windowed_value(found)
            else:
                yield TaggedOutput(found.tag, GlobalWindows.windowed_value(found.value))


@dataclass
class CommitParts(beam.PTransform):
    """Commit a job's tables when the receipts of all listed parts are there, if only of none.

    They come as those that were done before, and those that were made now. `fitted` is one record
    to keep with the tables.
    """

    job: Job
    fitted: beam.PCollection | None = None

    def expand(
        self, receipts: tuple[beam.PCollection[Receipt], beam.PCollection[Receipt]]
    ) -> beam.PCollection:
        done, made = receipts
        kept = done | "CountKept" >> beam.Map(count_kept)
        counted = made | "Count" >> beam.Map(count_part, self.job.stage)
        # So that there is always a group.
        nothing = made.pipeline | "Nothing" >> beam.Create([None])
        every = (kept, counted, nothing) | beam.Flatten()
        together = every | beam.WithKeys(None) | beam.GroupByKey()
        fitted = None if self.fitted is None else beam.pvalue.AsSingleton(self.fitted)
        return together | beam.Map(_commit, self.job, fitted)


def _list_parts(job: Job) -> Iterable[PartRef]:
    return job.list_parts()


def todo_or_done(refs: Sequence[PartRef], job: Job) -> Iterator[PartRef | TaggedOutput]:
    """Yield parts that are to do as they are, and the receipts of others as `done`."""
    if not refs:
        return
    with ThreadPoolExecutor(min(READERS, len(refs))) as threads:  # for the latency of a bucket
        receipts = threads.map(job.receipt, [ref.part for ref in refs])
        for ref, receipt in zip(refs, receipts, strict=True):
            yield ref if receipt is None else TaggedOutput("done", receipt)


def _commit(keyed: tuple[None, Iterable[Receipt | None]], job: Job, fitted: Any) -> list[str]:
    _, receipts = keyed
    manifests = job.commit(filter(None, receipts), fitted)
    return [manifest.ref for manifest in manifests]
