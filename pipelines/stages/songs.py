"""Aggregate the segment posteriors in use, and the sound, to an emotion and a timeline per track.

sssl songs --output OUTPUT [flags] [-- beam options]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa

from pipelines.beam.earlier import Earlier, read_manifest
from pipelines.beam.execute import is_launcher, launch_nothing, run_job
from pipelines.beam.job import Job, PartRef
from pipelines.beam.transforms import CommitParts, ListParts, SplitDone
from pipelines.errors import ChurnExceeded, HandedOver
from pipelines.stages.churn import check_churn, require_share
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.stages.standing import (
    LEARNED_BY,
    as_earlier,
    find_earlier,
    is_unchanged,
    mean_the_same,
    origin_of,
)
from pipelines.terminal.console import tell
from schemas import Song, to_arrow
from schemas.records import dump
from schemas.views import PLACES
from sssl.arrays import Floats, mean_of_models, posteriors
from sssl.audio.mel import MelConfig
from sssl.audio.sound import sound_features
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.plane import AXES, numbers_of
from sssl.embedding.table import embeddings_of
from sssl.errors import StoreError
from sssl.labels.fitted import KeptOpinion, KeptSplit
from sssl.songs.changes import song_changes
from sssl.songs.classifier import EMBEDDING, OPINIONS, LabelledTracks, SongModel, fit_songs
from sssl.songs.linear import mean_embedding
from sssl.songs.settings import SongConfig
from sssl.songs.softmax import STATISTICS, statistics
from sssl.songs.song import SongMaker, summarize_songs
from sssl.store.in_flight import InFlight
from sssl.store.layout import fit_path
from sssl.store.manifest import KEPT_FROM, Manifest, Receipt, Snapshot, digest_of
from sssl.store.publications import last_with_songs
from sssl.store.rounds import InUse, in_use, last_split

SCORES = ("scores", "undecided_scores")
"""Inputs with the posteriors of the rounds in use, of which there may be two."""
_TASK = "task"
"""Setting of a job that learns valence and arousal."""


@dataclass(frozen=True)
class Config:
    """Aggregate segment posteriors, and the sound, to an emotion and a timeline for each track."""

    output: str
    """Output folder of the score stage."""
    settings: SongConfig = field(default_factory=SongConfig)
    max_churn: float | None = None
    """Publish nothing, and end with exit code 4, if a larger share of the published song labels
    would change; none: publish however many change."""

    def __post_init__(self) -> None:
        require_share(self.max_churn)


class LabelledTrack(NamedTuple):
    """A track to fit to: its split, its label's index, its fold, its statistics [2 C + K], its mean
    embedding [D], its group, and its valence and arousal, NaN where there are none."""

    track_id: str
    split: str
    label: int
    fold: int
    statistics: Floats
    embedding: Floats | None
    group: str
    numbers: tuple[float, float]


class Scored(NamedTuple):
    """The segments of a track that have a posterior: [N, C], sound [N, K], start [N] and embedding
    [N, D]."""

    posterior: Floats
    sound: Floats
    start_s: Floats
    embedding: Floats | None


def build(
    root: beam.Pipeline,
    job: Job,
    settings: SongConfig,
    model_id: str,
    segment_s: float,
    second: KeptOpinion | None,
    kept: SongModel | None = None,
) -> None:
    """Wire the pipeline: fit classifier and threshold to labelled tracks of all parts, then apply
    them to each part. Where those of an earlier run stand they are `kept`."""
    parts = root | ListParts(job)
    states = parts | SplitDone(job)
    if kept is not None:
        model = root | "Kept" >> beam.Create([kept])
    else:
        model = (
            parts
            | beam.FlatMap(labelled_tracks, job, settings)
            | beam.combiners.ToList()
            | beam.Map(_fit, len(job.classes), settings, _signs(job), second)
        )
    written = states.todo | beam.Map(
        write_songs, job, settings, model_id, segment_s, model=beam.pvalue.AsSingleton(model)
    )
    (states.done, written) | CommitParts(job, model)


def scored_tracks(ref: PartRef, job: Job, settings: SongConfig) -> dict[str, Scored]:
    """Read a part's tracks that have a posterior, segments in order."""
    names = [name for name in SCORES if name in job.inputs]
    scores = [job.read(ref, name, ["track_id", "probabilities"]) for name in names]
    columns = ["start_s", "sound_db", "sound"] if settings.sound else ["start_s"]
    segments = job.read(ref, "segments", columns)
    # Appended rather than looked at beside it: tables of different length are refused.
    table = scores[0].select(["track_id"]).append_column("start_s", segments["start_s"])
    rows = table.to_pandas()
    start_s = rows["start_s"].to_numpy(np.float64)
    posterior = mean_of_models([posteriors(table, len(job.classes)) for table in scores])
    sound = _sound(ref, job, segments) if settings.sound else np.empty((len(rows), 0))
    embedding = _embeddings(ref, job, len(rows))
    is_finite = np.isfinite(posterior).all(axis=1)
    found = {}
    for track_id, own in rows[is_finite].groupby("track_id", sort=False):
        at = own.index
        embedded = None if embedding is None else embedding[at]
        found[str(track_id)] = Scored(posterior[at], sound[at], start_s[at], embedded)
    return found


def labelled_tracks(ref: PartRef, job: Job, settings: SongConfig) -> list[LabelledTrack]:
    """Return what the fit is told of a part's labelled tracks."""
    scored = scored_tracks(ref, job, settings)
    found = []
    for track in job.tracks(ref):
        own = scored.get(track.track_id)
        if own is None or track.label is None or track.split is None:
            continue
        embedding = None if own.embedding is None else mean_embedding(own.embedding)
        labelled = LabelledTrack(
            track_id=track.track_id,
            split=track.split,
            label=job.classes.index(track.label),
            fold=track.fold,
            statistics=statistics(own.posterior, own.sound),
            embedding=embedding,
            group=track.group_id,
            numbers=numbers_of(track),
        )
        found.append(labelled)
    return found


def write_songs(
    ref: PartRef, job: Job, settings: SongConfig, model_id: str, segment_s: float, model: SongModel
) -> Receipt:
    """Write the songs of a part."""
    round = job.config["scores_round"]
    maker = SongMaker(model, settings, job.classes, segment_s, round, model_id)
    tracks = job.tracks(ref)
    by_id = {track.track_id: track for track in tracks}
    ledger = job.read(ref, "ledger", ["track_id", "decoded_s"]).to_pydict()
    decoded_s = dict(zip(ledger["track_id"], ledger["decoded_s"], strict=True))
    songs = []
    for track_id, own in scored_tracks(ref, job, settings).items():
        track = by_id[track_id]
        song = maker.song(
            track_id,
            own.posterior,
            own.sound,
            own.start_s,
            track.split,
            track.fold,
            own.embedding,
            locked_label=track.label if track.locked else None,
            decoded_s=decoded_s[track_id],
        )
        songs.append(song)
    table = to_arrow(Song, songs)
    summary = summarize_songs(table, tracks, job.classes)
    return job.write(ref.part, {"songs": table}, summary)


def run(context: Context, settings: SongConfig) -> Context:
    """Run the stage and return the context with the songs."""
    snapshot = context.snapshot
    used = in_use(context.store, snapshot)
    # The ledger says where tracks, and so timelines, end; the classifier does not learn from it.
    inputs = _learned_from(snapshot, used) | {"ledger": snapshot.get("ledger")}
    second = _second_opinion(context) if settings.sound else None
    config = _config(settings, snapshot, used, second)
    job = Job.of(context.store, "songs", ("songs",), config, [], named=inputs)
    earlier = find_earlier(context, job.planned[0], inputs)
    kept, named = None, None
    if earlier is not None:
        named = _standing(context, earlier, inputs, _TASK in config)
    if earlier is not None and named is not None:
        kept = context.store.named(earlier.ref).about(SongModel)
        job = Job.of(context.store, "songs", ("songs",), config | named, [], named=inputs)
        job = replace(job, earlier=None if job.planned[0].ref == earlier.ref else earlier)
    elif earlier is not None and context.keeps_learned:
        tell("songs: what they go by changed, so their classifier is learned anew")
    cut = snapshot.get("segments").settings(MelConfig, "cut")

    def wire(root: beam.Pipeline) -> None:
        build(root, job, settings, used.model_id, cut.segment_s, second, kept)

    made = run_job(job, wire, context.beam_args)
    return context.add(*made)


def _learned_from(snapshot: Snapshot, used: InUse) -> dict[str, Manifest]:
    """Return the tables that the classifier of songs learns from, by their names as inputs."""
    tables = {"catalog": snapshot.get("catalog"), "segments": snapshot.get("segments")}
    for embeddings in snapshot.of("embeddings"):
        tables["embeddings"] = embeddings
    # One round is in use, or two: then each has its scores.
    for name, row in zip(SCORES, used.rounds, strict=False):
        tables[name] = snapshot.get("scores", row.round)
    return tables


def _standing(
    context: Context, earlier: Earlier, inputs: Mapping[str, Manifest], by_numbers: bool
) -> dict[str, str] | None:
    """Return None if the classifier of an earlier generation does not stand. If it does, return
    what the name of songs made with it has beside settings: where it was learned, if what it
    learned from has changed since, so that these are not taken for songs that learned from it.

    Where the run `keeps_songs` it stands unless the columns that it reads mean something else now:
    another front-end, another version of sound.
    """
    store = context.store
    if not mean_the_same(store, earlier, inputs):
        return None
    origin = origin_of(store, read_manifest(store, earlier.ref))
    learned = as_earlier(store, origin, inputs)
    read = {name: table for name, table in inputs.items() if name != "ledger"}
    if context.keeps_learned:
        # Whether labels and segments changed, the run has found out already.
        read = {name: inputs[name] for name in ("catalog", "embeddings") if name in inputs}
    learned_by = (*LEARNED_BY, *AXES) if by_numbers else LEARNED_BY
    if learned is not None and is_unchanged(store, learned, read, learned_by):
        return {}
    return {KEPT_FROM: origin.ref} if context.keeps_songs else None


def _second_opinion(context: Context) -> KeptOpinion | None:
    """Return the opinion beside the network's that the last split went by, or that published songs
    go by where a run keeps what was learned; None if there was none."""
    published = context.published.of("songs")
    split = last_split(context.snapshot)
    kept = None
    if not (context.keeps_learned and published):
        kept = context.store.read_record_if_whole(fit_path(split.ref), KeptSplit)
    if kept is not None:
        return kept.second
    if published and split.round:
        # A takedown deletes what a split was fitted to, but songs keep what they go by.
        return published[0].about(SongModel).second
    return None


def _config(
    settings: SongConfig, snapshot: Snapshot, used: InUse, second: KeptOpinion | None
) -> dict[str, Any]:
    """Return what the name of a generation of songs depends on: the settings, and how this version
    makes songs.

    An entry that is not a setting was added when a version began to make songs differently, so that
    songs made before are not taken for today's.
    """
    pools = [*OPINIONS]
    if snapshot.of("embeddings"):
        pools.append(EMBEDDING)
    config = dump(settings)
    config["scores_round"] = used.last.round
    config["fitted_to"] = ["train", "test"]
    config["says"] = ["timeline_label"]
    config["pools"] = pools
    config["left_out"] = "fold"
    config["timeline_to_end"] = True
    if second is not None:
        config["timeline_by"] = digest_of(dump(second))[:12]
    task = snapshot.get("catalog").settings(CatalogConfig).task
    if task != CatalogConfig.task:
        config[_TASK] = task
    return config


def _sound(ref: PartRef, job: Job, segments: pa.Table) -> Floats:
    """Return the sound [N, K] of a part's segments; of folders from before it was measured, that of
    their bands."""
    described = sound_features(segments)
    if described is None:
        return job.sound(ref, segments)
    return described[1].astype(np.float64)


def _embeddings(ref: PartRef, job: Job, rows: int) -> Floats | None:
    """Return the embeddings [N, D] of a part's segments; None where there is no front-end."""
    if "embeddings" not in job.inputs:
        return None
    found = embeddings_of(job.read(ref, "embeddings", ["embedding"])).astype(np.float64)
    if len(found) != rows:
        raise StoreError(f"part {ref.part} has {len(found)} embeddings of {rows} segments")
    return found


def _signs(job: Job) -> Floats | None:
    """Return the signs of valence and arousal by class [C, 2]; None where nobody asks for these."""
    if _TASK not in job.config:
        return None
    return np.array([PLACES[name] for name in job.classes], np.float64)


def _fit(
    rows: list[LabelledTrack],
    classes: int,
    settings: SongConfig,
    signs: Floats | None,
    second: KeptOpinion | None = None,
) -> SongModel:
    # Sorted, so that the fit does not depend on the order in which workers finish.
    ordered = sorted(rows, key=lambda row: row.track_id)
    # Where no track is labelled, the empty matrices have their columns all the same.
    width = STATISTICS * classes
    dimension = None
    if ordered:
        width = len(ordered[0].statistics)
        embedding = ordered[0].embedding
        dimension = None if embedding is None else len(embedding)
    train = _of_split(ordered, "train", width, dimension)
    held_out = _of_split(ordered, "test", width, dimension)
    return replace(fit_songs(train, held_out, classes, settings, signs), second=second)


def _of_split(
    rows: list[LabelledTrack], split: str, width: int, dimension: int | None
) -> LabelledTracks:
    own = [row for row in rows if row.split == split]
    features = np.array([row.statistics for row in own])
    labels = np.array([row.label for row in own], np.int64)
    folds = np.array([row.fold for row in own], np.int64)
    embeddings = None
    if dimension is not None:
        embedded = np.array([row.embedding for row in own], np.float64)
        embeddings = embedded.reshape(len(own), dimension)
    numbers = np.array([row.numbers for row in own], np.float64)
    names = sorted({row.group for row in own})
    number_of = {name: number for number, name in enumerate(names)}
    groups = np.array([number_of[row.group] for row in own], np.int64)
    return LabelledTracks(
        features.reshape(len(own), width),
        labels,
        folds,
        embeddings,
        numbers.reshape(len(own), len(AXES)),
        groups,
    )


def run_alone(context: Context, config: Config) -> Context:
    """Run the stage as a command, which looks at how many labels change."""
    had_songs = last_with_songs(context.store)
    try:
        context = run(context, config.settings)
    except HandedOver as handed:
        job_in_flight = handed.job and replace(handed.job, max_churn=config.max_churn)
        raise HandedOver(str(handed), job_in_flight) from None
    changes = song_changes(context.store, had_songs, context.snapshot)
    try:
        check_churn(context.store, changes, config.max_churn)
    except ChurnExceeded:
        if not is_launcher(context.beam_args):
            raise
        # Made by an earlier launch. `sssl publish` refuses them, and its message becomes the mail.
        launch_nothing(context.beam_args)
        songs = context.snapshot.get("songs")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        job = InFlight("songs", None, (songs.ref,), 0, now, max_churn=config.max_churn)
        raise HandedOver("songs: done before; `sssl publish` decides on them", job) from None
    return context


main = StageCommand("songs", Config, run_alone).main
