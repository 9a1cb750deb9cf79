"""Split segments into confident and noisy by the scores of the last accepted round, and write the round's labels.

sssl relabel --output OUTPUT --round R [flags] [-- beam options]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tyro
from numpy.typing import NDArray

from pipelines.command import preset_of, stage
from pipelines.execute import run_job
from pipelines.flags import parse, split_beam_args
from pipelines.io import Job, PartRef
from pipelines.transforms import CommitParts, ListParts, SplitDone
from schemas import Catalog
from sssl.mixture import BINS
from sssl.presets import PresetName
from sssl.relabel import RelabelConfig, Split, fit_split, inherit, loss_histograms, relabel
from sssl.rounds import last_accepted
from sssl.store import Receipt, Snapshot, Store

_KEY = ["track_id", "segment_index"]


@dataclass(frozen=True)
class Config:
    """Split segments into confident and noisy, and write the labels of a round."""

    output: str
    """Output folder of the segment stage."""
    round: int
    """Round to write labels for; 0 gives every segment its track's label."""
    preset: PresetName = "guarded"
    """Preset that the other flags' defaults come from: `guarded`, or `paper` for the method as published."""
    settings: RelabelConfig = field(default_factory=RelabelConfig)


def build(root: beam.Pipeline, job: Job, settings: RelabelConfig) -> None:
    """Wire the pipeline: round 0 inherits; later rounds fit a mixture on all parts, then split each by it."""
    parts = root | ListParts(job)
    states = parts | SplitDone(job)
    if job.round == 0:
        (states.done, states.todo | beam.Map(inherit_part, job)) | CommitParts(job)
        return
    split = (
        parts
        | "CountLosses" >> beam.Map(count_losses, job, settings)
        | beam.CombineGlobally(_sum_histograms)
        | beam.Map(_fit, job, settings)
    )
    relabelled = states.todo | beam.Map(relabel_part, job, settings, split=beam.pvalue.AsSingleton(split))
    (states.done, relabelled) | CommitParts(job, split | "Summarize" >> beam.Map(summarize, job))


def inherit_part(ref: PartRef, job: Job) -> Receipt:
    """Write the inherited labels of a part."""
    tracks = job.tracks(ref)
    labels = inherit(job.read(ref, "segments", _KEY), tracks, job.classes)
    return job.write(ref.part, {"labels": labels}, label_counts(labels, tracks))


def count_losses(ref: PartRef, job: Job, settings: RelabelConfig) -> NDArray[np.int64]:
    """Return the loss histograms [C, BINS] of a part."""
    return loss_histograms(job.read(ref, "scores", ["track_id", "loss"]), job.tracks(ref), job.classes, settings)


def relabel_part(ref: PartRef, job: Job, settings: RelabelConfig, split: Split) -> Receipt:
    """Write the labels of a part under a fitted split."""
    tracks, round = job.tracks(ref), job.round
    assert round is not None
    labels = relabel(job.read(ref, "scores"), tracks, job.classes, round, split, settings)
    return job.write(ref.part, {"labels": labels}, label_counts(labels, tracks))


def label_counts(labels: pa.Table, tracks: Sequence[Catalog]) -> Counter[str]:
    """Count the segments of train tracks by partition, and from which class to which their labels moved."""
    trained = {track.track_id for track in tracks if track.split == "train"}
    counts: Counter[str] = Counter(segments=len(labels))
    columns = ("track_id", "partition", "inherited_label", "label", "weight")
    for track_id, partition, inherited, label, weight in zip(*(labels[c].to_pylist() for c in columns), strict=True):
        if partition in ("unlabelled", "locked"):
            counts[partition] += 1
        elif track_id in trained:
            counts[partition] += 1
            counts[f"{partition}/{inherited}"] += 1
            counts["relabelled"] += label != inherited and weight > 0
            counts[f"flow/{inherited}/{label}"] += 1
    return counts


def summarize(split: Split, job: Job) -> dict[str, Any]:
    """Describe a fitted split for the manifest: the common mixture as `*`, then one a class."""
    named = [("*", split.common)] + [(name, own.mixture) for name, own in zip(job.classes, split.by_class, strict=True)]
    described = [
        {
            "class": name,
            "axis": split.axis,
            "confident": asdict(m.confident),
            "noisy": asdict(m.noisy) if m.noisy else {"weight": 0.0, "mean": None, "std": None},
        }
        for name, m in named
    ]
    return {"components": 1 if split.common.noisy is None else 2, "mixture": described}


def run(store: Store, snapshot: Snapshot, config: Config, beam_args: Sequence[str]) -> Snapshot:
    """Run the stage and return the snapshot with the round's labels."""
    inputs = [snapshot.get("catalog"), snapshot.get("segments")]
    if config.round:
        parent = last_accepted(store, snapshot, before=config.round)
        inputs.append(snapshot.get("scores", parent.round))
    settings = asdict(config.settings) if config.round else {}
    job = Job.of(store, "relabel", ("labels",), settings, inputs, config.round)
    (labels,) = run_job(job, lambda root: build(root, job, config.settings), beam_args)
    return snapshot.add(labels)


def _sum_histograms(histograms: Any) -> Any:
    return sum(histograms, start=np.zeros((1, BINS), np.int64))


def _fit(histograms: NDArray[np.int64], job: Job, settings: RelabelConfig) -> Split:
    return fit_split(np.broadcast_to(histograms, (len(job.classes), BINS)), settings)


def main(argv: Sequence[str]) -> int:
    flags, beam_args = split_beam_args(argv)
    name, preset = preset_of(flags)
    config = parse(
        Config, flags, "relabel", output=tyro.MISSING, round=tyro.MISSING, preset=name, settings=preset.relabel
    )
    return stage(config, run, beam_args)
