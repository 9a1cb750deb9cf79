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
from sssl.arrays import Floats, fitted_to, inherited_indices, of_tracks, track_numbers
from sssl.audio.mel import MelConfig
from sssl.audio.sound import sound_features
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.corrections import corrected_classes
from sssl.labels.consistency import (
    SoundMoments,
    TrackModel,
    fit_track_model,
    sound_moments,
    track_sound,
)
from sssl.labels.evidence import (
    Evidence,
    EvidenceConfig,
    Segments,
    Spread,
    fit_evidence,
    sum_losses,
    sum_spread,
)
from sssl.labels.findings import Findings
from sssl.labels.fitted import KeptSplit
from sssl.labels.relabel import Judged, inherit, relabel, summarize_labels
from sssl.labels.settings import RelabelConfig
from sssl.labels.sound_classifier import (
    ClassSums,
    Scale,
    ScaleSums,
    SecondOpinion,
    SoundClassifier,
    fit_classifier,
    fit_scale,
    fit_share,
)
from sssl.labels.split import Split, SplitSummary, fit_split, loss_histograms
from sssl.store.folder import Store
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


class View(NamedTuple):
    """What is thought of segments: the temperature of their posteriors, and what is mixed into
    those of the network before."""

    temperature: float
    second: SecondOpinion | None


class Described(NamedTuple):
    """What a part's segments sound like."""

    sound: Floats  # [N, K]
    label: NDArray[np.int64]  # [N]: the inherited one, -1 where there is none
    fold: NDArray[np.int64]  # [N]: the cross-fitting fold of their track, -1 for none
    fitted: NDArray[np.bool_]  # [N]: a classifier is fitted to it


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
    scales = parts | beam.Map(sum_scales, job, settings) | "AddScales" >> beam.CombineGlobally(_add)
    scale = beam.pvalue.AsSingleton(scales | beam.Map(fit_scale))
    by_class = (
        parts | beam.Map(sum_classes, job, scale) | "AddClasses" >> beam.CombineGlobally(_add)
    )
    classifier = beam.pvalue.AsSingleton(by_class | beam.Map(fit_classifier, scale))
    losses = (
        parts
        | beam.Map(sum_part_losses, job, settings, classifier)
        | "AddLosses" >> beam.CombineGlobally(_add)
    )
    view = beam.pvalue.AsSingleton(losses | beam.Map(fit_view, classifier))
    sounds = parts | beam.Map(sum_sounds, job, settings) | "AddSounds" >> beam.CombineGlobally(_add)
    model = beam.pvalue.AsSingleton(sounds | beam.Map(fit_track_model))
    spread = (
        parts
        | beam.Map(sum_spreads, job, settings, view, model)
        | "AddSpreads" >> beam.CombineGlobally(_add)
    )
    evidence = beam.pvalue.AsSingleton(
        spread | beam.Map(read_spread, view, model, settings.evidence)
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


def sum_scales(ref: PartRef, job: Job, settings: RelabelConfig) -> ScaleSums | None:
    """Return what a part tells about the units of sound; None if it tells, or is asked, nothing."""
    if not settings.evidence.by_sound:
        return None
    described = _described(ref, job)
    if described is None or not described.fitted.any():
        return None
    return ScaleSums.of(described.sound[described.fitted])


def sum_classes(ref: PartRef, job: Job, scale: Scale | None) -> ClassSums | None:
    """Return what a part tells about the sound of each class; None if it tells nothing."""
    described = _described(ref, job) if scale is not None else None
    if scale is None or described is None:
        return None
    fitted = described.fitted
    standardized = scale.standardized(described.sound[fitted])
    folds = job.input("catalog").settings(CatalogConfig).folds
    return ClassSums.of(
        standardized, described.label[fitted], described.fold[fitted], folds, len(job.classes)
    )


def sum_part_losses(
    ref: PartRef, job: Job, settings: RelabelConfig, classifier: SoundClassifier | None
) -> Floats | None:
    """Return what a part tells about how sure the model may be, and how much a classifier on the
    sound counts beside it; None if it is not asked."""
    if not _is_asked(settings):
        return None
    described = _described(ref, job) if classifier is not None else None
    by_sound = None
    if classifier is not None and described is not None:
        by_sound = classifier.posteriors(described.sound, described.fold)
    return sum_losses(_segments(ref, job), by_sound)


def fit_view(losses: Floats | None, classifier: SoundClassifier | None) -> View:
    """Fit what is thought of segments to the summed losses."""
    return View(*fit_share(losses, classifier))


def read_spread(
    spread: Spread | None, view: View, model: TrackModel | None, config: EvidenceConfig
) -> Evidence:
    """Fit how evidence is read."""
    return fit_evidence(spread, view.temperature, model, config, view.second)


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
    ref: PartRef, job: Job, settings: RelabelConfig, view: View, model: TrackModel | None
) -> Spread | None:
    """Return what a part tells about the scale of the evidence; None if it is not asked."""
    if _is_asked(settings):
        return sum_spread(_segments(ref, job, model, view.second), view.temperature, model)
    return None


def count_losses(
    ref: PartRef, job: Job, settings: RelabelConfig, evidence: Evidence
) -> NDArray[np.int64]:
    """Return the loss histograms [R, C, BINS] of a part, by how the evidence can be read: see
    `_readings`."""
    segments = _segments(ref, job, evidence.tracks, evidence.second)
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
    segments = _segments(ref, job, evidence.tracks, evidence.second)
    judged = Judged(segments.posterior, *evidence.losses(segments))
    labels = relabel(scores, judged, tracks, job.classes, round, split, settings, corrected)
    return job.write(ref.part, {"labels": labels}, summarize_labels(labels, tracks, job.classes))


def run(context: Context, round: int, settings: RelabelConfig) -> Context:
    """Run the stage and return the context with the round's labels."""
    store = context.store
    snapshot = context.snapshot
    named = {"catalog": snapshot.get("catalog"), "segments": snapshot.get("segments")}
    if round:
        parent = last_accepted(store, snapshot, before=round)
        named["scores"] = snapshot.get("scores", parent.round)
        settings = _as_begun(store, settings, named, round)
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


def _as_begun(
    store: Store, settings: RelabelConfig, inputs: Mapping[str, Manifest], round: int
) -> RelabelConfig:
    """Return the settings as an earlier version read them if it split this very round by them: a
    model may have been trained on that."""
    before = settings.as_before
    planned = Manifest.plan("labels", "relabel", dump(before), inputs.values(), round)
    return settings if store.committed(planned) is None else before


def _kept(context: Context, earlier: Earlier, inputs: Mapping[str, Manifest]) -> KeptSplit | None:
    """Return what the split of an earlier run learned, if that stands and was kept."""
    if not learned_stands(context, earlier, inputs):
        return None
    return context.store.read_record_if_whole(fit_path(earlier.ref), KeptSplit)


def _is_asked(settings: RelabelConfig) -> bool:
    return bool(settings.evidence.consistency) or settings.evidence.neighbours


def _segments(
    ref: PartRef, job: Job, model: TrackModel | None = None, second: SecondOpinion | None = None
) -> Segments:
    """Read the scored segments of a part, with their sound if a model asks for it, and with a
    second opinion if there is one."""
    scores = job.read(ref, "scores", ["track_id", "probabilities", "loss"])
    segments = Segments.of(
        scores, job.tracks(ref), job.classes, _sound(ref, job, model), _corrected(ref, job)
    )
    described = _described(ref, job) if second is not None else None
    if second is None or described is None:
        return segments
    mixed = second.mixed(segments.posterior, described.sound, described.fold)
    return replace(segments, posterior=mixed)


def _described(ref: PartRef, job: Job) -> Described | None:
    """Read what a part's segments sound like; None where the folder has no `sound`."""
    rows = job.read(ref, "segments", ["track_id", "sound"])
    features = sound_features(rows)
    if features is None:
        return None
    _, sound = features
    tracks = job.tracks(ref)
    folds = {track.track_id: track.fold for track in tracks if track.fold is not None}
    fitted = inherited_indices(rows, fitted_to(tracks), job.classes) >= 0
    corrected = _corrected(ref, job)
    if corrected is not None:
        fitted &= corrected < 0
    return Described(
        sound.astype(np.float64),
        inherited_indices(rows, tracks, job.classes),
        of_tracks(rows, folds),
        fitted,
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
