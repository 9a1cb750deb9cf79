"""Writing the scores of a part; where a GPU computes, in processes of their own.

A GPU scores a part in less time than Python takes to write it, and what one thread of Python does
all others wait for.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.beam.earlier import read_manifest
from pipelines.beam.job import Job, PartRef, Spent, seen_by_stages
from pipelines.stages.standing import rows_of
from schemas import Catalog
from schemas.reasons import PART_FAILED
from schemas.summaries import ModelsSummary
from sssl.errors import StoreError
from sssl.model.scores import scores_table, summarize_scores
from sssl.runtime.process_pool import Failure, IsolatedPool, Limits
from sssl.store.manifest import Receipt

_WRITERS = 4
_NO_LIMITS = Limits(timeout_s=None, memory_mb=None)


@dataclass(frozen=True)
class PartScores:
    """A part that the model has scored: posteriors [N, C], aligned with those of its segments that
    are not `known`.

    What is known are scores of an earlier generation by the same model; they stay as they are.
    """

    job: Job
    part: int
    segments: pa.Table
    tracks: list[Catalog]
    posteriors: NDArray[np.float32]
    known: pa.Table | None = None
    why: str = "non-finite"
    """Reason of those that are not finite."""
    spent: Spent | None = None
    """For the receipt; default: what the process that writes it spent."""


def known_scores(
    job: Job, ref: PartRef, features: pa.Table, tracks: Sequence[Catalog]
) -> pa.Table | None:
    """Return the earlier generation's scores of tracks in a part that are as they were; None if
    there are none.

    So the scores that a later round is learned from do not depend on which tracks without a label
    are beside theirs: in another batch the last digits of a posterior may differ.
    """
    if job.earlier is None:
        return None
    scores = read_manifest(job.store, job.earlier.ref)
    before = read_manifest(job.store, job.earlier.inputs["features"])
    if ref.part not in scores.files:
        return None
    earlier_tracks = set(job.earlier_tracks(ref))
    same = [t.track_id for t in tracks if seen_by_stages(t) in earlier_tracks]
    try:
        old = job.store.read_part(before.files[ref.part], features.column_names)
        found = job.store.read_part(scores.files[ref.part])
    except StoreError:
        return None
    stand = [t for t in same if rows_of(old, t).equals(rows_of(features, t))]
    stands = pc.is_in(found["track_id"], pa.array(stand, pa.string()))
    is_given_up = pc.fill_null(pc.equal(found["reason"], PART_FAILED), False)
    return found.filter(pc.and_not(stands, is_given_up))


def without_known(segments: pa.Table, known: pa.Table | None) -> pa.Table:
    """Return the rows whose scores are not known."""
    if known is None:
        return segments
    return segments.filter(pc.invert(_is_known(segments, known)))


def write(scores: PartScores) -> Receipt:
    """Write the scores of a part, and its receipt."""
    job = scores.job
    assert job.round is not None
    model_id = job.input("models").about(ModelsSummary).model_id
    todo = without_known(scores.segments, scores.known)
    table = scores_table(
        todo, scores.posteriors, scores.tracks, job.classes, job.round, model_id, scores.why
    )
    if scores.known is not None:
        table = _in_order(scores.segments, scores.known, table)
    files = job.write_files(scores.part, {"scores": table})
    summary = summarize_scores(table, scores.tracks, job.classes)
    return job.finish(scores.part, files, summary, scores.spent)


def _in_order(segments: pa.Table, known: pa.Table, scored: pa.Table) -> pa.Table:
    """Put known and new scores together in the order of segments."""
    is_known = _is_known(segments, known).to_numpy(zero_copy_only=False)
    place = np.empty(len(segments), np.int64)
    place[is_known] = np.arange(len(known))
    place[~is_known] = len(known) + np.arange(len(scored))
    return pa.concat_tables([known, scored]).take(pa.array(place)).combine_chunks()


def _is_known(segments: pa.Table, known: pa.Table) -> pa.ChunkedArray:
    return pc.is_in(segments["track_id"], known["track_id"].unique())


class WriterProcesses:
    """Processes that write scores, and their receipts, which say what was spent where parts are
    read and scored."""

    def __init__(self) -> None:
        self._pool = IsolatedPool(_WRITERS, _NO_LIMITS, preload=__name__)
        weakref.finalize(self, self._pool.close)  # Beam does not say when it is done with a model

    def write(self, scores: PartScores) -> Receipt:
        """Write the scores of a part, and its receipt.

        Raises:
            StoreError: the process died.
        """
        written = self._pool.submit(write, replace(scores, spent=Spent.lap())).result()
        if isinstance(written, Failure):
            raise StoreError(
                f"while the scores of part {scores.part} were written, {written.detail}"
            )
        return written
