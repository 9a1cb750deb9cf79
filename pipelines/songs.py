"""Aggregate the segment posteriors of the last accepted round to an emotion and a timeline a track.

sssl songs --output OUTPUT [flags] [-- beam options]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import apache_beam as beam
import numpy as np
import pyarrow as pa

from pipelines.command import stage
from pipelines.execute import run_job
from pipelines.flags import parse, split_beam_args
from pipelines.io import Job, PartRef
from pipelines.transforms import CommitParts, ListParts, SplitDone
from schemas import Song, to_arrow
from sssl.rounds import last_accepted
from sssl.score import by_track
from sssl.songs import (
    STATISTICS,
    Floats,
    SongConfig,
    SongMaker,
    SongModel,
    TrainTracks,
    fit_songs,
    song_counts,
    statistics,
)
from sssl.store import Receipt, Snapshot, Store

Labelled = tuple[str, int, str, Floats]


@dataclass(frozen=True)
class Config:
    """Aggregate segment posteriors to an emotion and a timeline a track."""

    output: str
    """Output folder of the score stage."""
    settings: SongConfig = field(default_factory=SongConfig)


def build(root: beam.Pipeline, job: Job, settings: SongConfig, model_id: str, segment_s: float) -> None:
    """Wire the pipeline: fit classifier and threshold on train tracks of all parts, then apply them to each part."""
    parts = root | ListParts(job)
    states = parts | SplitDone(job)
    model = (
        parts
        | beam.FlatMap(labelled_statistics, job)
        | beam.combiners.ToList()
        | beam.Map(_fit, len(job.classes), settings)
    )
    written = states.todo | beam.Map(
        write_songs, job, settings, model_id, segment_s, model=beam.pvalue.AsSingleton(model)
    )
    summary = model | "Summarize" >> beam.Map(SongModel.to_json)
    (states.done, written) | CommitParts(job, summary)


def labelled_statistics(ref: PartRef, job: Job) -> list[Labelled]:
    """Return (track id, label index, group, statistics) of a part's train tracks."""
    known = {
        t.track_id: (job.classes.index(t.label), t.group_id)
        for t in job.tracks(ref)
        if t.label is not None and t.split == "train"
    }
    scored = by_track(job.read(ref, "scores", ["track_id", "probabilities"]))
    return [(track_id, *known[track_id], statistics(rows)) for track_id, rows in scored.items() if track_id in known]


def write_songs(
    ref: PartRef, job: Job, settings: SongConfig, model_id: str, segment_s: float, model: SongModel
) -> Receipt:
    """Write the songs of a part."""
    scores = job.read(ref, "scores", ["track_id", "probabilities"])
    scores = scores.append_column("start_s", job.read(ref, "segments", ["start_s"])["start_s"])
    scores = scores.filter(pa.compute.is_valid(scores["probabilities"]))
    starts: dict[str, list[float]] = {}
    for track_id, start_s in zip(scores["track_id"].to_pylist(), scores["start_s"].to_pylist(), strict=True):
        starts.setdefault(track_id, []).append(start_s)
    maker = SongMaker(model, settings, job.classes, segment_s, job.config["scores_round"], model_id)
    songs = [
        maker.song(track_id, posterior, np.array(starts[track_id])) for track_id, posterior in by_track(scores).items()
    ]
    table = to_arrow(Song, songs)
    return job.write(ref.part, {"songs": table}, song_counts(table, job.tracks(ref)))


def run(store: Store, snapshot: Snapshot, config: Config, beam_args: Sequence[str]) -> Snapshot:
    """Run the stage and return the snapshot with the songs."""
    accepted = last_accepted(store, snapshot)
    segments = snapshot.get("segments")
    inputs = [snapshot.get("catalog"), segments, snapshot.get("scores", accepted.round)]
    settings = asdict(config.settings) | {"scores_round": accepted.round}
    job = Job.of(store, "songs", ("songs",), settings, inputs)
    segment_s = segments.config["cut"]["segment_s"]
    (songs,) = run_job(job, lambda root: build(root, job, config.settings, accepted.model_id, segment_s), beam_args)
    return snapshot.add(songs)


def _fit(rows: list[Labelled], classes: int, settings: SongConfig) -> SongModel:
    # Sorted, so that the fit does not depend on the order in which workers finish.
    ordered = sorted(rows, key=lambda row: row[0])
    features = np.array([row[3] for row in ordered]).reshape(-1, STATISTICS * classes)
    labels = np.array([row[1] for row in ordered], np.int64)
    return fit_songs(TrainTracks(features, labels, [row[2] for row in ordered]), classes, settings)


def main(argv: Sequence[str]) -> int:
    flags, beam_args = split_beam_args(argv)
    return stage(parse(Config, flags, "songs"), run, beam_args)
