"""The story of one track from its file to its label, read from the published tables: only the parts
that hold it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import Catalog, Label, Ledger, Round, Score, Song
from sssl.arrays import Floats
from sssl.audio.mel import MelConfig, in_db
from sssl.errors import StoreError
from sssl.songs.classifier import SongModel
from sssl.songs.song import HUMAN
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot
from sssl.store.removals import is_removed, taken_down
from sssl.store.rounds import last_split, read_rounds, verdict_of
from sssl.store.tensors import log_mels


@dataclass(frozen=True)
class TrackRound:
    """What a judged round made of a track; without scores where nothing was trained in it."""

    verdict: Round
    labels: list[Label]
    scores: list[Score]

    @property
    def relabelled(self) -> int:
        """Segments whose label differs from the track's."""
        return sum(
            row.label is not None and row.label != row.inherited_label for row in self.labels
        )

    @property
    def noisy(self) -> int:
        return sum(row.partition == "noisy" for row in self.labels)

    @property
    def posterior(self) -> Floats | None:
        """Mean posterior [C] of the track's segments."""
        found = [row.probabilities for row in self.scores if row.probabilities is not None]
        if found:
            return np.mean(found, axis=0)
        return None


@dataclass(frozen=True)
class Story:
    """All that the tables know of a track; `start_s` is that of each of its segments."""

    track: Catalog
    entry: Ledger
    classes: tuple[str, ...]
    start_s: list[float]
    cut: MelConfig
    rounds: list[TrackRound]
    split_round: int
    split: list[Label]
    """Its labels by the last split made, whatever became of the model that was trained after it."""
    song: Song | None
    song_model: SongModel | None
    """What made the song, if it goes by sound, too."""

    @property
    def end_s(self) -> float:
        """Where its last segment or its timeline ends, whichever is later; 0 without segments."""
        if not self.start_s:
            return 0.0
        heard_to_s = self.start_s[-1] + self.cut.segment_s
        if self.song is None or not self.song.timeline:
            return heard_to_s
        last: Any = self.song.timeline[-1]["end_s"]
        return max(heard_to_s, float(last))

    @property
    def suspects(self) -> int:
        """Segments that the last split made calls noisy."""
        return sum(row.partition == "noisy" for row in self.split)

    @property
    def without_sound(self) -> Floats | None:
        """What the song's probabilities [C] were with the sound of an average track; None if sound
        does not count."""
        if self.song_model is None or self.used is None:
            return None
        posterior = np.array(
            [row.probabilities for row in self.used.scores if row.probabilities is not None]
        )
        return self.song_model.classifier_for(self.track.split, self.track.fold).without_sound(
            posterior
        )

    @property
    def why_the_timeline_differs(self) -> str | None:
        """Say why the model gave the song another label than most of its timeline; None if it has
        not, or a human gave the label."""
        if self.song is None or self.song.label_source == HUMAN:
            return None
        if self.song.timeline_label in (None, self.song.label):
            return None
        if self.song_model is not None and self.song_model.second is not None:
            return (
                "the timeline goes by each segment's posterior and sound, the label by those of the"
                " whole track"
            )
        mean = None if self.used is None else self.used.posterior
        if mean is not None and self.classes[int(mean.argmax())] == self.song.label:
            return "by the mean posterior few segments that are sure outweigh many that are not"
        return "the song classifier also goes by the track's sound and by its least sure segments"

    @property
    def used(self) -> TrackRound | None:
        """The round whose scores the song was made from, else the last accepted one.

        Where its verdict is undecided, two rounds made the song: the scores are the means of both.
        """
        by_number = {round.verdict.round: round for round in self.rounds}
        last = None
        if self.song is not None:
            last = by_number.get(self.song.round)
        if last is None:
            accepted = [round for round in self.rounds if round.verdict.accepted]
            last = accepted[-1] if accepted else None
        if last is None or verdict_of(last.verdict) != "undecided":
            return last
        parent_round = last.verdict.parent_round
        assert parent_round is not None  # only a round that was compared can be undecided
        parent = by_number[parent_round]
        means = map(_mean_score, parent.scores, last.scores)
        return replace(last, scores=list(means))


def tell(store: Store, snapshot: Snapshot, track_id: str) -> Story:
    """Read the story of a track.

    Raises:
        StoreError: the track is not in the catalog; the message says what its ids look like.
    """
    track = _find(store, snapshot.get("catalog"), track_id)
    reader = _Reader(store, snapshot, track)
    (entry,) = reader.rows("ledger", None)
    segments = reader.rows("segments", None, ["track_id", "start_s"])
    split_round = 0
    if snapshot.of("labels"):
        split_round = last_split(snapshot).round or 0
    song = None
    song_model = None
    songs = reader.rows("songs", None)
    if songs:
        song = Song(**songs[0])
        song_model = _hearing_model(snapshot.get("songs"))
    rounds = []
    for verdict in read_rounds(store, snapshot):
        scores = [Score(**row) for row in reader.rows("scores", verdict.round)]
        rounds.append(TrackRound(verdict, reader.labels(verdict.round), scores))
    return Story(
        track=track,
        entry=Ledger(**entry),
        classes=snapshot.catalog.classes,
        start_s=[row["start_s"] for row in segments],
        cut=snapshot.get("segments").settings(MelConfig, "cut"),
        rounds=rounds,
        split_round=split_round,
        split=reader.labels(split_round),
        song=song,
        song_model=song_model,
    )


def draw(store: Store, snapshot: Snapshot, story: Story) -> bytes:
    """Draw a labelled track as PNG: spectrogram, posterior, timeline and noisy segments.

    Raises:
        StoreError: the track has no segments or no song, so that there is nothing to draw.
    """
    from sssl.plots.track import Bands, Block, TrackView, track_png

    if story.song is None or story.used is None:
        raise StoreError(
            f"track {story.track.track_id} is not labelled: there is no timeline to draw"
        )
    reader = _Reader(store, snapshot, story.track)
    features = reader.part_of(snapshot.features, ["track_id", "log_mel"])
    unknown = [np.nan] * len(story.classes)
    posterior = [row.probabilities or unknown for row in story.used.scores]
    entries = cast("list[dict[str, Any]]", story.song.timeline)
    blocks = [(entry["start_s"], entry["end_s"], entry["label"]) for entry in entries]
    bands: Bands = {"timeline": blocks}
    hop_s = story.cut.start_distance_s
    noisy: list[Block] = []
    for start_s, row in zip(story.start_s, story.split, strict=True):
        if row.partition == "noisy":
            noisy.append((start_s, start_s + hop_s, None))
    if noisy:
        bands["noisy"] = noisy
    view = TrackView(
        start_s=np.array(story.start_s),
        log_mel=in_db(log_mels(features)),
        posterior=np.array(posterior),
        bands=bands,
        segment_s=story.cut.segment_s,
        rate_hz=story.cut.rate_hz,
        frame_hop=story.cut.frame_hop,
    )
    return track_png(view, story.classes)


def _mean_score(before: Score, after: Score) -> Score:
    """Return a segment's score by two models together, by one of them where the other gave no
    posterior."""
    both = (before, after)
    mean = replace(after, model_id=f"{before.model_id}+{after.model_id}")
    posteriors = [row.probabilities for row in both if row.probabilities is not None]
    if posteriors:
        probabilities = np.mean(posteriors, axis=0)
        mean = replace(mean, probabilities=probabilities.tolist(), reason=None)
    losses = [row.loss for row in both if row.loss is not None]
    if losses:
        at_label = np.exp(np.negative(losses))
        mean = replace(mean, loss=float(-np.log(np.mean(at_label))))
    return mean


@dataclass(frozen=True)
class _Reader:
    """Reads the rows of one track from the part that holds it."""

    store: Store
    snapshot: Snapshot
    track: Catalog

    def rows(
        self, table: str, round: int | None, columns: list[str] | None = None
    ) -> list[dict[str, Any]]:
        """Return rows as dicts, none where the table (of the round) is not there."""
        if not any(manifest.round == round for manifest in self.snapshot.of(table)):
            return []
        own = self.part_of(self.snapshot.get(table, round), columns)
        return list(own.to_pylist())

    def labels(self, round: int) -> list[Label]:
        """Return the labels of the track's segments in a round."""
        return [Label(**row) for row in self.rows("labels", round)]

    def part_of(self, manifest: Manifest, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of the track in a table."""
        content = self.store.read_part(manifest.files[self.track.part], columns)
        is_own = pc.equal(content["track_id"], self.track.track_id)
        return content.filter(is_own)


def _hearing_model(songs: Manifest) -> SongModel | None:
    model = songs.about(SongModel)
    if model.classifier.knows_sound:
        return model
    return None


def _find(store: Store, catalog: Manifest, track_id: str) -> Catalog:
    for _, tracks in store.iter_parts(catalog):
        found = tracks.filter(pc.equal(tracks["track_id"], track_id)).to_pylist()
        if found:
            return Catalog(**found[0])
    if is_removed(track_id, taken_down(store)):
        raise StoreError(f"track {track_id} was taken down")
    example = store.read_part(catalog.files[0], ["track_id"])["track_id"][0].as_py()
    raise StoreError(f"no track {track_id!r} in the catalog; its ids look like {example!r}")
