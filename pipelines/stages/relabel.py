"""Split segments into confident and noisy by the scores of the last accepted round, and write the
round's labels.

sssl relabel --output OUTPUT --round R [flags] [-- beam options]
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from pipelines.beam.earlier import Earlier
from pipelines.beam.execute import run_job
from pipelines.beam.job import Job
from pipelines.beam.transforms import CommitParts, ListParts, SplitDone
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.stages.relabel_part import (
    Calibration,
    Reading,
    count_losses,
    inherit_part,
    readings,
    relabel_part,
    sum_classes,
    sum_part_losses,
    sum_scales,
    sum_sounds,
    sum_spreads,
)
from pipelines.stages.settings_file import IN_FILE, Source
from pipelines.stages.standing import find_earlier, learned_stands, mean_the_same, own_config
from pipelines.terminal.console import tell
from schemas.records import dump
from sssl.arrays import Floats
from sssl.labels.consistency import TrackModel, fit_track_model
from sssl.labels.evidence import Evidence, EvidenceConfig, Spread, fit_evidence
from sssl.labels.findings import Findings
from sssl.labels.fitted import KeptSplit
from sssl.labels.settings import RelabelConfig
from sssl.labels.sound_classifier import SoundClassifier, fit_classifier, fit_scale, fit_share
from sssl.labels.split import SplitSummary, fit_split
from sssl.store.layout import fit_path
from sssl.store.manifest import Manifest
from sssl.store.rounds import last_accepted


@dataclass(frozen=True)
class Config:
    """Split segments into confident and noisy, and write the labels of a round."""

    output: str
    """Output folder of the segment stage."""
    round: int
    """Round to write labels for; 0 gives every segment its track's label."""
    source: Source = field(default_factory=Source)
    settings: Annotated[RelabelConfig, IN_FILE] = field(default_factory=RelabelConfig)


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
    if kept is None:
        reading = learn_to_read(parts, job, settings)
    else:
        stands = Reading(kept.evidence(), kept.split(settings))
        reading = root | "Kept" >> beam.Create([stands])
    relabelled = states.todo | beam.Map(
        relabel_part, job, settings, beam.pvalue.AsSingleton(reading)
    )
    summary = reading | "Summarize" >> beam.Map(_summary, job)
    (states.done, relabelled) | CommitParts(job, summary)


def learn_to_read(parts: beam.PCollection, job: Job, settings: RelabelConfig) -> beam.PCollection:
    """Learn from the sums of all parts how evidence is read: what classes and what tracks sound
    like, how sure posteriors may be, the scale of either, and the split that follows."""

    def summed(name: str, sum_up: Callable[..., Any], *inputs: Any) -> beam.PCollection:
        sums = parts | name >> beam.Map(sum_up, job, *inputs)
        return sums | f"Add{name}" >> beam.CombineGlobally(_add)

    single = beam.pvalue.AsSingleton
    scale = single(summed("Scales", sum_scales, settings) | beam.Map(fit_scale))
    by_class = summed("Classes", sum_classes, scale)
    classifier = single(by_class | beam.Map(fit_classifier, scale))
    losses = summed("Losses", sum_part_losses, settings, classifier)
    calibration = single(losses | beam.Map(fit_calibration, classifier))
    tracks = single(summed("Sounds", sum_sounds, settings) | beam.Map(fit_track_model))
    spread = summed("Spreads", sum_spreads, settings, calibration, tracks)
    evidence = single(spread | beam.Map(fit_reading, calibration, tracks, settings.evidence))
    counts = summed("Counts", count_losses, settings, evidence)
    return counts | beam.Map(read_evidence, job, settings, evidence)


def fit_calibration(losses: Floats | None, classifier: SoundClassifier | None) -> Calibration:
    """Fit what is thought of segments to the summed losses."""
    return Calibration(*fit_share(losses, classifier))


def fit_reading(
    spread: Spread | None,
    calibration: Calibration,
    tracks: TrackModel | None,
    config: EvidenceConfig,
) -> Evidence:
    """Fit how evidence is read to its summed spread."""
    return fit_evidence(spread, calibration.temperature, tracks, config, calibration.second)


def read_evidence(
    histograms: NDArray[np.int64], job: Job, settings: RelabelConfig, evidence: Evidence
) -> Reading:
    """Fit the split to the loss histograms [R, C, BINS] of the first reading that makes two heaps,
    else of the last, and keep both."""
    for candidate, counts in zip(readings(evidence), histograms, strict=True):
        split = fit_split(counts, settings, candidate.in_parts)
        kept = KeptSplit.of(counts, candidate, split)
        reading = Reading(candidate, split)
        if split.common.noisy is not None:
            break
    job.store.write_record(fit_path(job.receipts), kept)
    return reading


def run(context: Context, round: int, settings: RelabelConfig) -> Context:
    """Run the stage and return the context with the round's labels."""
    store = context.store
    snapshot = context.snapshot
    named = {"catalog": snapshot.get("catalog"), "segments": snapshot.get("segments")}
    if round:
        parent = last_accepted(store, snapshot, before=round)
        named["scores"] = snapshot.get("scores", parent.round)
        settings = _as_begun(context, settings, named, round)
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
    context: Context, settings: RelabelConfig, inputs: Mapping[str, Manifest], round: int
) -> RelabelConfig:
    """Return the settings as an earlier version read them if it split this very round by them, or
    the published one that is kept: a model may have been trained on that."""
    before = settings.as_before
    planned = Manifest.plan("labels", "relabel", dump(before), inputs.values(), round)
    is_begun = context.store.committed(planned) is not None
    if context.keeps_learned:
        published = context.published.of("labels")
        is_begun |= any(m.round == round and own_config(m) == dump(before) for m in published)
    if before == settings or not is_begun:
        return settings
    tell(f"round {round} stays as an earlier version split it, by the network alone")
    return before


def _kept(context: Context, earlier: Earlier, inputs: Mapping[str, Manifest]) -> KeptSplit | None:
    """Return what the split of an earlier run learned, if that stands and was kept."""
    fits = mean_the_same(context.store, earlier, inputs)
    if not (fits and learned_stands(context, earlier, inputs)):
        return None
    return context.store.read_record_if_whole(fit_path(earlier.ref), KeptSplit)


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
