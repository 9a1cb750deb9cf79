"""Split segments into confident and noisy by the scores of the last accepted round, and write the
round's labels.

sssl relabel --output OUTPUT --round R [flags] [-- beam options]
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.beam.earlier import Earlier
from pipelines.beam.execute import run_job
from pipelines.beam.job import Job, PartRef
from pipelines.beam.transforms import CommitParts, ListParts, SplitDone
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.stages.settings_file import IN_FILE, Source
from pipelines.stages.standing import find_earlier, learned_stands
from pipelines.terminal.console import tell
from schemas.records import dump
from sssl.arrays import Floats, track_numbers
from sssl.audio.mel import MelConfig
from sssl.catalog.corrections import corrected_classes
from sssl.labels.calibration import fit_temperature
from sssl.labels.consistency import (
    SoundMoments,
    TrackModel,
    fit_track_model,
    sound_moments,
    track_sound,
)
from sssl.labels.evidence import Evidence, Segments, Spread, fit_evidence, sum_losses, sum_spread
from sssl.labels.findings import Findings
from sssl.labels.fitted import KeptSplit
from sssl.labels.relabel import inherit, relabel, summarize_labels
from sssl.labels.settings import RelabelConfig
from sssl.labels.split import Split, SplitSummary, fit_split, loss_histograms
from sssl.store.layout import fit_path
from sssl.store.manifest import Manifest, Receipt
from sssl.store.rounds import last_accepted

_KEY = ["track_id", "segment_index"]
_SOUND = ["track_id", "band_level_db", "sound_db"]


@dataclass(frozen=True)
class Config:
    """Split segments into confident and noisy, and write the labels of a round."""

    output: str
    """Output folder of the segment stage."""
    round: int
    """Round to write labels for; 0 gives every segment its track's label."""
    source: Source = field(default_factory=Source)
    settings: Annotated[RelabelConfig, IN_FILE] = field(default_factory=RelabelConfig)


class Reading(NamedTuple):
    """How the evidence of a round is read, and the split that follows."""

    evidence: Evidence
    split: Split


def build(
    root: beam.Pipeline, job: Job, settings: RelabelConfig, kept: KeptSplit | None = None
) -> None:
    """Wire the pipeline: round 0 inherits; later rounds learn on all parts how to read the
    evidence, fit a mixture to it, then split each part by that. Where what an earlier run learned
    stands it is `kept`."""
    parts = root | ListParts(job)
    states = parts | SplitDone(job)
    if job.round == 0:
        (states.done, states.todo | beam.Map(inherit_part, job)) | CommitParts(job)
        return
    if kept is not None:
        evidence = kept.evidence()
        split = kept.split(settings)
        relabelled = states.todo | beam.Map(relabel_part, job, settings, Reading(evidence, split))
        summary = root | "Kept" >> beam.Create([_summary(Reading(evidence, split), job)])
        (states.done, relabelled) | CommitParts(job, summary)
        return
    losses = (
        parts | beam.Map(sum_part_losses, job, settings) | "AddLosses" >> beam.CombineGlobally(_add)
    )
    temperature = beam.pvalue.AsSingleton(losses | beam.Map(fit_temperature))
    sounds = parts | beam.Map(sum_sounds, job, settings) | "AddSounds" >> beam.CombineGlobally(_add)
    model = beam.pvalue.AsSingleton(sounds | beam.Map(fit_track_model))
    spread = (
        parts
        | beam.Map(sum_spreads, job, settings, temperature, model)
        | "AddSpreads" >> beam.CombineGlobally(_add)
    )
    evidence = beam.pvalue.AsSingleton(
        spread | beam.Map(fit_evidence, temperature, model, settings.evidence)
    )
    counts = (
        parts
        | beam.Map(count_losses, job, settings, evidence)
        | "AddCounts" >> beam.CombineGlobally(_add)
    )
    reading = counts | beam.Map(read_evidence, job, settings, evidence)
    relabelled = states.todo | beam.Map(
        relabel_part, job, settings, beam.pvalue.AsSingleton(reading)
    )
    summary = reading | "Summarize" >> beam.Map(_summary, job)
    (states.done, relabelled) | CommitParts(job, summary)


def inherit_part(ref: PartRef, job: Job) -> Receipt:
    """Write the inherited labels of a part."""
    tracks = job.tracks(ref)
    corrected = _corrected(ref, job)
    labels = inherit(job.read(ref, "segments", _KEY), tracks, job.classes, corrected)
    return job.write(ref.part, {"labels": labels}, summarize_labels(labels, tracks, job.classes))


def sum_part_losses(ref: PartRef, job: Job, settings: RelabelConfig) -> Floats | None:
    """Return what a part tells about how sure the model may be; None if it is not asked."""
    if _is_asked(settings):
        return sum_losses(_segments(ref, job))
    return None


def sum_sounds(ref: PartRef, job: Job, settings: RelabelConfig) -> SoundMoments | None:
    """Return what a part tells about the sound of train tracks; None if it tells, or is asked,
    nothing."""
    train = [
        track.track_id
        for track in job.tracks(ref)
        if track.label is not None and track.split == "train"
    ]
    if not train or not settings.evidence.consistency:
        return None
    segments = job.read(ref, "segments", _SOUND)
    of_train = pc.is_in(segments["track_id"], pa.array(train))
    if not pc.any(of_train).as_py():
        return None
    sound = track_sound(segments, job.sound(ref, segments))[of_train.to_numpy()]
    return sound_moments(sound, track_numbers(segments.filter(of_train)))


def sum_spreads(
    ref: PartRef, job: Job, settings: RelabelConfig, temperature: float, model: TrackModel | None
) -> Spread | None:
    """Return what a part tells about the scale of the evidence; None if it is not asked."""
    if _is_asked(settings):
        return sum_spread(_segments(ref, job, model), temperature, model)
    return None


def count_losses(
    ref: PartRef, job: Job, settings: RelabelConfig, evidence: Evidence
) -> NDArray[np.int64]:
    """Return the loss histograms [R, C, BINS] of a part, by how the evidence can be read: see
    `_readings`."""
    segments = _segments(ref, job, evidence.tracks)
    losses = [reading.losses(segments)[0] for reading in _readings(evidence)]
    return np.stack([loss_histograms(loss, segments, settings.axis) for loss in losses])


def relabel_part(ref: PartRef, job: Job, settings: RelabelConfig, reading: Reading) -> Receipt:
    """Write the labels of a part under a fitted split."""
    evidence, split = reading
    tracks = job.tracks(ref)
    round = job.round
    scores = job.read(ref, "scores")
    assert round is not None
    corrected = _corrected(ref, job)
    segments = Segments.of(
        scores, tracks, job.classes, _sound(ref, job, evidence.tracks), corrected
    )
    loss, consistency = evidence.losses(segments)
    labels = relabel(
        scores, loss, consistency, tracks, job.classes, round, split, settings, corrected
    )
    return job.write(ref.part, {"labels": labels}, summarize_labels(labels, tracks, job.classes))


def run(context: Context, round: int, settings: RelabelConfig) -> Context:
    """Run the stage and return the context with the round's labels."""
    store = context.store
    snapshot = context.snapshot
    named = {"catalog": snapshot.get("catalog"), "segments": snapshot.get("segments")}
    if round:
        parent = last_accepted(store, snapshot, before=round)
        named["scores"] = snapshot.get("scores", parent.round)
    config = dump(settings) if round else {}
    job = Job.of(store, "relabel", ("labels",), config, [], round, named)
    earlier = find_earlier(context, job.planned[0], named)
    kept = _kept(context, earlier, named) if earlier and round else None
    if kept is not None:
        kept = replace(kept, common=kept.split(settings).common)
        store.write_record(fit_path(job.receipts), kept)
    if kept is not None or not round:
        job = replace(job, earlier=earlier)
    context = context.add(
        *run_job(job, lambda root: build(root, job, settings, kept), context.beam_args)
    )
    if round:
        found = Findings.of(store, context.snapshot, round).found
        tell(f"round {round} split: {found}")
    return context


def _kept(context: Context, earlier: Earlier, inputs: Mapping[str, Manifest]) -> KeptSplit | None:
    """Return what the split of an earlier run learned, if that stands and was kept."""
    if not learned_stands(context, earlier, inputs):
        return None
    return context.store.read_record_if_whole(fit_path(earlier.ref), KeptSplit)


def _is_asked(settings: RelabelConfig) -> bool:
    return bool(settings.evidence.consistency) or settings.evidence.neighbours


def _segments(ref: PartRef, job: Job, model: TrackModel | None = None) -> Segments:
    """Read the scored segments of a part, with their sound if a model asks for it."""
    scores = job.read(ref, "scores", ["track_id", "probabilities", "loss"])
    return Segments.of(
        scores, job.tracks(ref), job.classes, _sound(ref, job, model), _corrected(ref, job)
    )


def _corrected(ref: PartRef, job: Job) -> NDArray[np.int64] | None:
    """Return what listeners said of a part's segments [N], None where they said nothing."""
    tracks = [track for track in job.tracks(ref) if track.corrections]
    if not tracks:
        return None
    segment_s = job.input("segments").settings(MelConfig, "cut").segment_s
    return corrected_classes(
        job.read(ref, "segments", ["track_id", "start_s"]), segment_s, tracks, job.classes
    )


def _sound(ref: PartRef, job: Job, model: TrackModel | None) -> Floats | None:
    if model is None:
        return None
    segments = job.read(ref, "segments", _SOUND)
    return track_sound(segments, job.sound(ref, segments))


def _readings(evidence: Evidence) -> list[Evidence]:
    """Return how evidence can be read. Labels that look wrong in parts of tracks may turn out not
    to be, when the losses have a single peak."""
    if evidence.in_parts:
        return [evidence, evidence.of_whole_tracks]
    return [evidence]


def read_evidence(
    histograms: NDArray[np.int64], job: Job, settings: RelabelConfig, evidence: Evidence
) -> Reading:
    """Fit the split to the loss histograms [R, C, BINS] of the first reading that makes two heaps,
    else of the last, and keep both."""
    for candidate, counts in zip(_readings(evidence), histograms, strict=True):
        split = fit_split(counts, settings, candidate.in_parts)
        kept = KeptSplit.of(counts, candidate, split)
        reading = Reading(candidate, split)
        if split.common.noisy is not None:
            break
    job.store.write_record(fit_path(job.receipts), kept)
    return reading


def _summary(reading: Reading, job: Job) -> SplitSummary:
    return SplitSummary.of(reading.split, job.classes, reading.evidence)


def _add(sums: Iterable[Any]) -> Any:
    """Add up what parts return; None of nothing."""
    given = [one for one in sums if one is not None]
    if given:
        return functools.reduce(operator.add, given)
    return None


main = StageCommand(
    "relabel",
    Config,
    lambda context, config: run(context, config.round, config.settings),
    of_settings=lambda given: {"settings": given.method.relabel},
).main
