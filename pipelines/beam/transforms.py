"""Wiring that the jobs share. Elements are part references and receipts; tensors never cross a
shuffle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from pipelines.beam.counters import count_kept, count_part
from pipelines.beam.job import Job, PartRef
from sssl.store.manifest import Receipt


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
        return parts | beam.FlatMap(_todo_or_done, self.job).with_outputs("done", main="todo")


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


def _todo_or_done(ref: PartRef, job: Job) -> Iterable[Any]:
    receipt = job.receipt(ref.part)
    yield ref if receipt is None else beam.pvalue.TaggedOutput("done", receipt)


def _commit(keyed: tuple[None, Iterable[Receipt | None]], job: Job, fitted: Any) -> list[str]:
    _, receipts = keyed
    manifests = job.commit(filter(None, receipts), fitted)
    return [manifest.ref for manifest in manifests]
