"""Writing the scores of a part; where a GPU computes, in processes of their own.

A GPU scores a part in less time than Python takes to write it, and what one thread of Python does all others wait for.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.beam.job import Job
from schemas import Catalog
from schemas.summaries import ModelsSummary, ScoresSummary
from sssl.errors import StoreError
from sssl.model.scores import scores_table, summarize_scores
from sssl.runtime.process_pool import Failure, IsolatedPool, Limits
from sssl.store.manifest import PartFile, Receipt

_WRITERS = 4
_NO_LIMITS = Limits(timeout_s=None, memory_mb=None)


@dataclass(frozen=True)
class PartScores:
    """A part that the model has scored: posteriors [N, C], aligned with its segments."""

    job: Job
    part: int
    segments: pa.Table
    tracks: list[Catalog]
    posteriors: NDArray[np.float32]


def write(scores: PartScores) -> Receipt:
    """Write the scores of a part, and its receipt."""
    return scores.job.finish(scores.part, *write_files(scores))


def write_files(scores: PartScores) -> tuple[dict[str, PartFile], ScoresSummary]:
    """Write the scores of a part; return its files and what they sum up to, for its receipt."""
    job = scores.job
    assert job.round is not None
    model_id = job.input("models").about(ModelsSummary).model_id
    table = scores_table(scores.segments, scores.posteriors, scores.tracks, job.classes, job.round, model_id)
    return job.write_files(scores.part, {"scores": table}), summarize_scores(table, scores.tracks, job.classes)


class WriterProcesses:
    """Processes that write scores. Receipts are written here: they say what CPU time all processes took together."""

    def __init__(self) -> None:
        self._pool = IsolatedPool(_WRITERS, _NO_LIMITS, preload=__name__)
        weakref.finalize(self, self._pool.close)  # Beam does not say when it is done with a model

    def write(self, scores: PartScores) -> Receipt:
        """Write the scores of a part, and its receipt.

        Raises:
            StoreError: the process died.
        """
        written = self._pool.submit(write_files, scores).result()
        if isinstance(written, Failure):
            raise StoreError(f"while the scores of part {scores.part} were written, {written.detail}")
        return scores.job.finish(scores.part, *written)
