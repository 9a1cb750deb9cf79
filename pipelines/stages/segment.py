"""Cut every track of a catalog into segments, and write down what became of each.

sssl segment --catalog CATALOG --output OUTPUT [flags] [-- beam options]

A rerun decodes what is new, what changed and what is asked for; the segments of all other tracks
are reused.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.beam.counters import tell_failed
from pipelines.beam.earlier import Earlier
from pipelines.beam.execute import in_process, run_job
from pipelines.beam.job import Job, PartRef
from pipelines.beam.mass import MassFailure
from pipelines.beam.transforms import CommitParts, ListParts, SplitDone
from pipelines.beam.tries import MOST_TRIES, Tries
from pipelines.errors import HandedOver
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.stages.corrections import find_corrections, tell_corrections
from pipelines.stages.error_ratio import check_error_ratio
from pipelines.stages.previous import TABLES, PartBefore, Previous, of_tracks
from pipelines.stages.settings import Config as Config
from pipelines.stages.settings import Settings as Settings
from pipelines.terminal.console import console, tell
from pipelines.terminal.flags import warn
from schemas import Catalog, Ledger, Status, to_arrow
from schemas.reasons import PART_FAILED
from schemas.records import dump
from sssl.audio.cut import CutTrack, cut_track, features_table, ledger_row, segments_table
from sssl.catalog.assign import Dealt, without_groups
from sssl.catalog.committed import commit_catalog
from sssl.catalog.ledger import summarize_ledger
from sssl.catalog.plan import Cause, nothing_in_common
from sssl.catalog.read import read_catalog
from sssl.runtime.machine import cores
from sssl.runtime.process_pool import Failure, IsolatedPool
from sssl.store.manifest import Manifest, Receipt
from sssl.store.removals import taken_down
from sssl.words import counted

LOGGER = logging.getLogger(__name__)
_ADVICE = (
    "once the cause is gone run it again with --retry retryable, or with --max-error-ratio 1 to see"
    " the ledger of all"
)


def build(
    root: beam.Pipeline,
    job: Job,
    previous: Previous,
    settings: Settings,
    processes: int,
    tries: Tries | None = None,
) -> None:
    """Wire the pipeline. Where workers may die and an engine tries again, `tries` says how
    often."""
    parts = root | ListParts(job) | SplitDone(job)
    cut = parts.todo | beam.ParDo(CutPart(job, previous, settings, processes, tries))
    (parts.done, cut) | CommitParts(job)


class _Started(NamedTuple):
    """A part whose tracks are with the decoder processes."""

    part: int
    tracks: list[Catalog]
    before: PartBefore
    todo: list[Catalog]
    results: list[Future[CutTrack | Failure]]


class CutPart(beam.DoFn):
    """Cut the tracks of a part in isolated processes and write its segments, features and ledger.

    The next part is started before one is waited for, so that no process idles while another has a
    part's last track. A part that was begun before is done alone, so that the next kill counts for
    no other part.
    """

    def __init__(
        self,
        job: Job,
        previous: Previous,
        settings: Settings,
        processes: int,
        tries: Tries | None = None,
    ) -> None:
        self._job = job
        self._previous = previous
        self._settings = settings
        self._processes = processes
        self._tries = tries
        self._mass = MassFailure("segment", _ADVICE, settings.max_error_ratio)

    def setup(self) -> None:
        self._pool = IsolatedPool(self._processes, self._settings.limits, preload="sssl.audio.cut")

    def teardown(self) -> None:
        self._pool.close()

    def start_bundle(self) -> None:
        self._started: deque[_Started] = deque()

    def process(self, ref: PartRef) -> Iterator[Receipt]:
        made = 0 if self._tries is None else self._tries.made(ref.part)
        if made:
            yield from self._finish_all()
            if self._tries is not None and made >= MOST_TRIES:
                yield self._give_up(ref, self._tries)
            else:
                yield self._finish(self._start(ref))
            return
        self._started.append(self._start(ref))
        if len(self._started) > 1:
            yield self._finish(self._started.popleft())

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for receipt in self._finish_all():
            yield GlobalWindows.windowed_value(receipt)

    def _finish_all(self) -> Iterator[Receipt]:
        while self._started:
            yield self._finish(self._started.popleft())

    def _start(self, ref: PartRef) -> _Started:
        if self._tries is not None:
            self._tries.begin(ref.part)
        with self._blameless(ref.part):
            tracks, before, todo = self._read(ref)
        cut = partial(
            cut_track,
            mel=self._settings.cut,
            gate=self._settings.strict_gate,
            sound=self._settings.sound_version,
        )
        results = [self._pool.submit(cut, track) for track in todo]
        return _Started(ref.part, tracks, before, todo, results)

    def _read(self, ref: PartRef) -> tuple[list[Catalog], PartBefore, list[Catalog]]:
        """Return the tracks of a part, what was there of them before, and those that are to be
        cut."""
        tracks = self._job.tracks(ref)
        before = self._previous.part(ref.part)
        causes = before.causes(tracks, self._settings.again)
        todo = []
        for track, cause in zip(tracks, causes, strict=True):
            if cause is not Cause.UNCHANGED:
                todo.append(track)
        return tracks, before, todo

    def _blameless(self, part: int) -> AbstractContextManager[None]:
        if self._tries is None:
            return nullcontext()
        return self._tries.blameless(part)

    def _give_up(self, ref: PartRef, tries: Tries) -> Receipt:
        """Write down that the tracks of a part could not be cut, whichever of them it is that kills
        workers."""
        detail = tries.give_up(ref.part)
        tracks, before, todo = self._read(ref)
        cuts = []
        for track in todo:
            row = ledger_row(track, Status.FAILED, PART_FAILED, detail)
            cuts.append(CutTrack(row))
        made = merge(tracks, cuts, before, self._settings)
        return write_part(self._job, ref.part, tracks, *made)

    def _finish(self, started: _Started) -> Receipt:
        with self._blameless(started.part):
            return self._write(started)

    def _write(self, started: _Started) -> Receipt:
        part, tracks, before, todo, results = started
        if not todo and before.holds(tracks):
            ledger = [before.ledger[track.track_id] for track in tracks]
            return self._job.finish(part, before.files, summarize_ledger(tracks, ledger))
        cuts = []
        for track, result in zip(todo, results, strict=True):
            cuts.append(_cut_or_failed(track, result.result()))
        reasons = []
        for cut in cuts:
            row = cut.ledger
            if row.status is Status.FAILED:
                reason = str(row.reason)
                reasons.append(reason)
                tell_failed("segment", part, row.track_id, reason, row.detail)
        self._mass.add(len(cuts), reasons)
        made = merge(tracks, cuts, before, self._settings)
        return write_part(self._job, part, tracks, *made)


def write_part(
    job: Job,
    part: int,
    tracks: list[Catalog],
    ledger: list[Ledger],
    segments: pa.Table,
    features: pa.Table,
) -> Receipt:
    """Write the segments, the features and the ledger of a part."""
    tables = {"segments": segments, "features": features, "ledger": to_arrow(Ledger, ledger)}
    return job.write(part, tables, summarize_ledger(tracks, ledger))


def merge(
    tracks: list[Catalog], cuts: list[CutTrack], before: PartBefore, settings: Settings
) -> tuple[list[Ledger], pa.Table, pa.Table]:
    """Put together a part's ledger, segments and features, in the order of tracks, from new cuts
    and from what was there."""
    new = {cut.ledger.track_id: cut.ledger for cut in cuts}
    ledger = []
    kept = []
    for track in tracks:
        row = new.get(track.track_id)
        if row is None:
            row = before.ledger[track.track_id]
            kept.append(track.track_id)
        ledger.append(row)
    segments = segments_table(cuts, settings.cut, settings.sound_version)
    features = features_table(cuts, settings.cut)
    if kept:
        kept_segments = of_tracks(before.segments(), kept)
        kept_features = of_tracks(before.features(settings.cut), kept)
        segments = _in_order(tracks, segments, kept_segments)
        features = _in_order(tracks, features, kept_features)
    return ledger, segments, features


def _in_order(tracks: list[Catalog], *tables: pa.Table) -> pa.Table:
    """Put rows together in the order of tracks."""
    rows = pa.concat_tables(tables)
    position = {track.track_id: place for place, track in enumerate(tracks)}
    track_ids = rows["track_id"].to_pylist()
    places = pa.array([position[track_id] for track_id in track_ids], pa.int32())
    # Stable, so that the segments of a track stay in their order.
    order = pa.compute.sort_indices(places)
    return rows.take(order).combine_chunks()


def run(
    context: Context,
    catalog: str,
    labels: str | None,
    settings: Settings,
    check: Callable[[pa.Table], None] = lambda _: None,
    remark: Callable[[str], None] = lambda _: None,
    corrections: str | None = None,
) -> Context:
    """Run the stage on a catalog, on top of what is published, and return the context with its
    tables.

    `check` raises what later stages would have against the catalog, before anything is decoded.
    `remark` gets what is said of the catalog, such as what a folder has besides tracks, to say it
    again at the end. Where no `corrections` are given, those in the output folder count.

    Raises:
        CatalogError: the catalog cannot be used.
        ErrorRatioExceeded: too many tracks failed.
    """

    def warn_and_remark(sentence: str) -> None:
        warn(sentence)
        remark(sentence)

    def read(dealt: Dealt) -> pa.Table:
        gone = taken_down(context.store)
        said = find_corrections(context.store, corrections)
        tracks = read_catalog(catalog, labels, settings.deal, dealt, gone, warn_and_remark, said)
        check(tracks)
        alone = without_groups(tracks)
        if alone is not None:
            tell(alone)
        return tracks

    context = run_on(context, read, settings)
    tell_corrections(context.store, context.snapshot, tell, warn_and_remark)
    return context


def run_on(context: Context, read: Callable[[Dealt], pa.Table], settings: Settings) -> Context:
    """Run the stage on the catalog that `read` returns, given the catalog as it was dealt before.

    Raises:
        ErrorRatioExceeded: too many tracks failed.
    """
    store = context.store
    asked = settings
    settings = asked.in_folder(store, context.snapshot)
    passed_over = settings.passed_over(asked)
    if passed_over is not None:
        warn(passed_over)
    previous = Previous.of(store, context.snapshot, settings.of_rows())
    is_older = not context.snapshot.of("features")
    if previous.refs and not previous.config_changed and not is_older:
        context = _with_lost_parts(context, settings)
    # A part of an earlier version's tables is not made again as it was: what is left of these is
    # copied to new ones.
    is_lost = is_older and not all(map(store.is_there, context.snapshot.of("segments")))
    dealt = previous.dealt()
    tracks = read(dealt)
    causes = previous.causes(tracks, dealt, settings.again)
    counts = ", ".join(f"{count} {cause}" for cause, count in causes.most_common())
    console.print(f"{counted(len(tracks), 'track')}: {counts}")
    for warning in (nothing_in_common(causes), settings.again.nothing_moved(dealt.tracks)):
        if warning is not None:
            warn(warning)
    catalog = commit_catalog(store, tracks, settings.deal)
    is_same_catalog = previous.refs.get("catalog") == catalog.ref
    stands = is_same_catalog and set(causes) == {Cause.UNCHANGED} and not is_lost
    if not stands:
        earlier = previous.earlier(causes, settings.again)
        context = _cut(context, catalog, previous, settings, earlier)
    check_error_ratio(store, context.snapshot, settings.max_error_ratio)
    return context


def _cut(
    context: Context,
    catalog: Manifest,
    previous: Previous,
    settings: Settings,
    earlier: Earlier | None,
) -> Context:
    """Run the pipeline and return the context with its tables."""
    config = settings.of_rows()
    if previous.refs:
        config |= {"previous": previous.refs, "again": dump(settings.again)}
    # The tables are part of the name, so that no generation of a version that wrote others goes on
    # as one of these.
    config |= {"tables": list(TABLES)}
    job = Job.of(context.store, "segment", TABLES, config, [catalog])
    job = replace(job, earlier=earlier)
    is_here = in_process(context.beam_args)
    processes = settings.processes or (cores() if is_here else 1)
    # In this process nobody tries again.
    tries = None if is_here else Tries.of(job, settings.max_error_ratio)

    def wire(root: beam.Pipeline) -> None:
        build(root, job, previous, settings, processes, tries)

    try:
        made = run_job(job, wire, context.beam_args)
    except HandedOver as handed:
        job_in_flight = handed.job
        if job_in_flight is not None:
            job_in_flight = replace(job_in_flight, max_error_ratio=settings.max_error_ratio)
        raise HandedOver(str(handed), job_in_flight) from None
    return context.adopt(*made)


def _with_lost_parts(context: Context, settings: Settings) -> Context:
    """Decode the parts again whose files are lost, or were set aside by `sssl verify`; all others
    stay as they are.

    Of a table whose file for readers is lost alone, nothing is decoded.
    """
    store = context.store
    published = context.snapshot
    tables = tuple(published.get(table) for table in TABLES)
    if all(map(store.is_there, tables)):
        return context
    lost = set()
    for table in tables:
        gone = store.lost(table)
        lost |= {part for part, file in table.files.items() if file.path in gone}
    receipts = _decoded(context, tables, sorted(lost), settings) if lost else []
    for table in tables:
        again = {receipt.part: receipt.files[table.table] for receipt in receipts}
        mended = replace(table, files={**table.files, **again}, compacted=())
        compacted = store.compact(mended)
        context = context.add(store.commit(compacted))
    return context


def _decoded(
    context: Context, tables: tuple[Manifest, ...], parts: list[int], settings: Settings
) -> list[Receipt]:
    """Decode parts of the published catalog and return their receipts."""
    published = context.snapshot
    console.print(f"{counted(len(parts), 'part')} of the segments lost or set aside: decoded again")
    inputs = {"catalog": published.get("catalog").ref}
    job = Job(context.store, tables, inputs, published.catalog.parts, published.catalog.classes)
    processes = settings.processes or cores()
    cutting = CutPart(job, Previous(context.store, {}, False), settings, processes)
    cutting.setup()
    try:
        cutting.start_bundle()
        receipts = [receipt for part in parts for receipt in cutting.process(PartRef(part, {}))]
        return receipts + [last.value for last in cutting.finish_bundle()]
    finally:
        cutting.teardown()


def _cut_or_failed(track: Catalog, result: CutTrack | Failure) -> CutTrack:
    if isinstance(result, Failure):
        return CutTrack(ledger_row(track, Status.FAILED, result.reason, result.detail))
    return result


main = StageCommand(
    "segment",
    Config,
    lambda context, config: run(
        context, config.catalog, config.labels, config.settings, corrections=config.corrections
    ),
    of_settings=lambda given: {"settings": Settings.of(given)},
    creates=True,
).main
