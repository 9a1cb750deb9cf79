"""Embedding the segments of a part: what is kept of before, what is decoded, and what is written.

A track whose segments are as they were keeps its embeddings.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.beam.counters import tell_failed
from pipelines.beam.earlier import read_manifest
from pipelines.beam.job import Job, PartRef
from pipelines.beam.mass import MassFailure
from pipelines.beam.tries import MOST_TRIES, Tries
from pipelines.stages.accelerator import require_accelerator
from schemas import REASONS, Catalog
from schemas.reasons import PART_FAILED
from sssl.audio.integrity import GateConfig
from sssl.audio.mel import MelConfig
from sssl.config import require
from sssl.embedding.contract import FrontEnd
from sssl.embedding.decoding import Wave, decode_wave
from sssl.embedding.embedder import NON_FINITE, Embedder
from sssl.embedding.table import (
    embeddings_of,
    embeddings_table,
    none_is_finite,
    summarize_embeddings,
)
from sssl.runtime.ahead import results_in_order
from sssl.runtime.device import describe, require_gpu
from sssl.runtime.process_pool import Failure, IsolatedPool, Limits
from sssl.store.manifest import PartFile, Receipt

LOGGER = logging.getLogger(__name__)
_AHEAD = 2
"""Tracks per process that are decoded, or wait for it, while others are embedded."""
_OF_AUDIO = ("segment_index", "level_db", "band_level_db")
"""Columns of a segment that are others if its audio is another."""


@dataclass(frozen=True)
class Placement:
    """Where tracks are decoded and the network runs, and how many parts may be given up."""

    processes: int | None = None
    """Decoder processes per worker; default: one per core if Beam runs in this process, else
    one."""
    threads: int | None = None
    """Threads of the network per worker; default: one per core if Beam runs in this process, else
    one."""
    accelerator: str | None = None
    """Accelerator, and machine, that the step with the network, and no other, asks Dataflow for;
    default: none. For example
    `type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver`."""
    max_error_ratio: float = 0.5
    """Share of parts that may end their workers three times before the job stops. Their tracks have
    no embeddings then, and the next delivery, or --retry, tries them again."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name in ("processes", "threads"):
            count = getattr(self, name)
            require(count is None or count > 0, name, count, "1 or more")
        ratio = self.max_error_ratio
        require(0 <= ratio <= 1, "max_error_ratio", ratio, "a share from 0 to 1")
        require_accelerator(self.accelerator)


class Before(NamedTuple):
    """Embeddings by the same front-end that were made before, by their ref, and the segments that
    they are of."""

    embeddings: str
    segments: str


class Task(NamedTuple):
    """What every worker is told."""

    job: Job
    front_end: FrontEnd
    before: Before | None
    retry: bool
    placement: Placement
    tries: Tries | None = None
    """How often parts were begun, where workers may die and an engine tries again."""


class _Plan(NamedTuple):
    """A part: its tracks, the segments of each, the embeddings that are kept, and whose are to be
    made."""

    ref: PartRef
    tracks: list[Catalog]
    segments: pa.Table
    of_track: dict[str, pa.Table]
    kept: dict[str, pa.Table]

    @property
    def todo(self) -> list[Catalog]:
        return [
            t for t in self.tracks if t.track_id in self.of_track and t.track_id not in self.kept
        ]


class _Found(NamedTuple):
    """Embeddings [N, D] of a track, and why a segment has none."""

    embeddings: NDArray[np.float16]
    reasons: Sequence[str | None]


class PartEmbedder:
    """A front-end, loaded, with processes that decode for it; embeds parts."""

    def __init__(self, task: Task, threads: int, processes: int) -> None:
        self._job = task.job
        self._before = task.before
        self._task = task
        self._processes = processes
        segments = self._job.input("segments")
        self._cut = segments.settings(MelConfig, "cut")
        self._gate = segments.settings(GateConfig, "gate")
        on_gpu = task.placement.accelerator is not None
        if on_gpu and task.front_end.reference.kind != "onnx":
            require_gpu(f"--accelerator {task.placement.accelerator}")
        self._embedder = Embedder(task.front_end, self._cut.segment_s, threads, on_gpu)
        self._mass = MassFailure("embed", "once the cause is gone run it again with --retry")
        self._not_finite = MassFailure("embed", none_is_finite(task.front_end.name))
        LOGGER.info("embedding on %s", describe())

    def embed(self, refs: Iterable[PartRef]) -> Iterator[Receipt]:
        """Embed parts and write their embeddings; one that is done since it was listed stays as it
        is."""
        pool = IsolatedPool(
            self._processes, self._task.placement.limits, preload="sssl.embedding.decoding"
        )
        try:
            with TemporaryDirectory(prefix="sssl-embed-") as folder:
                decode = partial(
                    decode_wave,
                    rate_hz=self._embedder.rate_hz,
                    max_s=self._gate.max_s,
                    folder=folder,
                )
                for together in self._apart(refs):
                    yield from self._embed(together, pool, decode)
        finally:
            pool.close()

    def _apart(self, refs: Iterable[PartRef]) -> Iterator[list[PartRef]]:
        """Say which parts are done together: those that were begun before are done alone."""
        if self._task.tries is None:
            yield list(refs)
            return
        by_tries = self._task.tries.sort(refs)
        yield by_tries.fresh
        yield from ([ref] for ref in (*by_tries.begun, *by_tries.lost))

    def _embed(self, refs: Iterable[PartRef], pool: IsolatedPool, decode: Any) -> Iterator[Receipt]:
        """Embed part after part while the tracks that follow are decoded, also those of the next
        part."""
        plans: deque[_Plan | Receipt] = deque()

        def tracks() -> Iterator[Catalog]:
            for ref in refs:
                plan = self._job.receipt(ref.part) or self._as_before(ref) or self._begun(ref)
                plans.append(plan)
                if isinstance(plan, _Plan):
                    yield from plan.todo

        submit = partial(pool.submit, decode)
        waves = results_in_order(submit, tracks(), _AHEAD * self._processes)
        # Asked for before it is needed: that is what plans the parts up to the next track.
        next_wave = next(waves, None)
        while plans:
            plan = plans[0]
            if isinstance(plan, Receipt):
                yield plan
            else:
                made = {}
                for track in plan.todo:
                    assert next_wave is not None  # each track has a wave, or why there is none
                    made[track.track_id] = self._of_track(plan, track, next_wave)
                    next_wave = next(waves, None)
                with self._blameless(plan.ref.part):
                    receipt = self._write(plan, made)
                yield receipt
            plans.popleft()

    def _blameless(self, part: int) -> AbstractContextManager[None]:
        tries = self._task.tries
        return nullcontext() if tries is None else tries.blameless(part)

    def _of_track(self, plan: _Plan, track: Catalog, wave: Wave | Failure) -> _Found:
        """Embed the segments of a track, whose samples are deleted then."""
        if wave.reason is not None:
            tell_failed("embed", plan.ref.part, track.track_id, wave.reason, wave.detail)
            self._mass.add(1, [wave.reason])
            return self._nothing(plan, track, wave.reason)
        self._mass.add(1, [])
        assert isinstance(wave, Wave)
        segments = plan.of_track[track.track_id]
        start_s = segments["segment_index"].to_numpy() * self._cut.start_distance_s
        with wave.samples() as samples:
            found = _Found(*self._embedder.embed(samples, start_s))
        has_none = NON_FINITE in found.reasons and None not in found.reasons
        if self._before is None:
            # Beside embeddings that are finite a delivery of tracks that have none is no failure.
            self._not_finite.add(1, [NON_FINITE] if has_none else [])
        return found

    def _begun(self, ref: PartRef) -> _Plan | Receipt:
        """Begin a part; one that was begun too often is given up instead."""
        tries = self._task.tries
        if tries is None:
            return self._plan(ref)
        if tries.made(ref.part) < MOST_TRIES:
            tries.begin(ref.part)
            with tries.blameless(ref.part):
                return self._plan(ref)
        tries.give_up(ref.part)
        plan = self._plan(ref)
        return self._write(
            plan, {t.track_id: self._nothing(plan, t, PART_FAILED) for t in plan.todo}
        )

    def _nothing(self, plan: _Plan, track: Catalog, reason: str) -> _Found:
        """Say that no segment of a track has an embedding."""
        rows = len(plan.of_track[track.track_id])
        nothing = np.full((rows, self._embedder.dimension), np.nan, np.float16)
        return _Found(nothing, [reason] * rows)

    def _plan(self, ref: PartRef) -> _Plan:
        segments = self._job.read(ref, "segments", ["track_id", *_OF_AUDIO])
        of_track = _by_track(segments)
        return _Plan(ref, self._job.tracks(ref), segments, of_track, self._kept(ref, of_track))

    def _as_before(self, ref: PartRef) -> Receipt | None:
        """Keep the file of a part whose segments are the same file as before; None if it is not
        so."""
        file, segments = self._files_before(ref.part)
        if file is None or segments is None or segments.sha256 != ref.files["segments"].sha256:
            return None
        rows = self._job.store.read_part(file, ["track_id", "reason"])
        reasons = set(rows["reason"].unique().to_pylist()) - {None}
        if PART_FAILED in reasons or (self._task.retry and reasons):
            return None
        summary = summarize_embeddings(rows, self._job.tracks(ref))
        return self._job.finish(ref.part, {"embeddings": file}, summary)

    def _kept(self, ref: PartRef, of_track: dict[str, pa.Table]) -> dict[str, pa.Table]:
        """Return the embeddings of before, by track, of those whose segments are as they were."""
        file, segments = self._files_before(ref.part)
        if file is None or segments is None:
            return {}
        store = self._job.store
        before = _by_track(store.read_part(segments, ["track_id", *_OF_AUDIO]))
        rows = _by_track(store.read_part(file))
        return {
            track_id: rows[track_id]
            for track_id, own in of_track.items()
            if track_id in before and track_id in rows and before[track_id].equals(own)
            if not _was_given_up(rows[track_id])
            if not (self._task.retry and _may_succeed(rows[track_id]))
        }

    def _files_before(self, part: int) -> tuple[PartFile | None, PartFile | None]:
        """Return a part's files of before, of embeddings and of segments; None for what is not
        there."""
        if self._before is None:
            return None, None
        manifests = (read_manifest(self._job.store, ref) for ref in self._before)
        files = (manifest.files.get(part) for manifest in manifests)
        found = [file if file and self._job.store.exists(file.path) else None for file in files]
        return found[0], found[1]

    def _write(self, plan: _Plan, made: dict[str, _Found]) -> Receipt:
        found = {
            track_id: made.get(track_id) or _as_found(plan.kept[track_id])
            for track_id in plan.of_track
        }
        empty = np.empty((0, self._embedder.dimension), np.float16)
        table = embeddings_table(
            plan.segments,
            np.concatenate([empty, *(one.embeddings for one in found.values())]),
            [reason for one in found.values() for reason in one.reasons],
            self._task.front_end.of_rows(),
        )
        summary = summarize_embeddings(table, plan.tracks)
        return self._job.write(plan.ref.part, {"embeddings": table}, summary)


def _by_track(rows: pa.Table) -> dict[str, pa.Table]:
    """Return the rows of each track, which lie in a row."""
    track_ids = np.asarray(rows["track_id"].to_pylist(), dtype=object)
    if not len(track_ids):
        return {}
    first = np.flatnonzero(np.concatenate([[True], track_ids[1:] != track_ids[:-1]]))
    last = np.append(first[1:], len(track_ids))
    return {
        track_ids[a]: rows.slice(a, b - a)
        for a, b in zip(first.tolist(), last.tolist(), strict=True)
    }


def _as_found(rows: pa.Table) -> _Found:
    return _Found(embeddings_of(rows).astype(np.float16), rows["reason"].to_pylist())


def _was_given_up(rows: pa.Table) -> bool:
    return PART_FAILED in rows["reason"].to_pylist()


def _may_succeed(rows: pa.Table) -> bool:
    """Whether a track lacks embeddings for a reason other than what its network makes of it."""
    return any(reason in REASONS and reason != NON_FINITE for reason in rows["reason"].to_pylist())
