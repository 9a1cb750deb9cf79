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
from sssl.audio.mel import MelConfig
from sssl.errors import StoreError
from sssl.songs.classifier import SongModel
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
        """Say why the song has another label than most of its timeline; None if it has not."""
        if self.song is None or self.song.timeline_label in (None, self.song.label):
            return None
        mean = None if self.used is None else self.used.posterior
        if mean is not None and self.classes[int(mean.argmax())] == self.song.label:
            return "by the mean posterior few segments that are sure outweigh many that are not"
        return "the song classifier also goes by the track's sound and by its least sure segments"

    @property
    def used(self) -> TrackRound | None:
        """The round whose scores the song was made from, else the last accepted one.

        Where its verdict is undecided, two rounds made the song: the scores are the means of both.
        """
        own = [
            round for round in self.rounds if self.song and round.verdict.round == self.song.round
        ]
        accepted = [round for round in self.rounds if round.verdict.accepted]
        last = next(reversed(own or accepted), None)
        if last is None or verdict_of(last.verdict) != "undecided":
            return last
        (parent,) = [
            round for round in self.rounds if round.verdict.round == last.verdict.parent_round
        ]
        return replace(last, scores=list(map(_mean_score, parent.scores, last.scores)))


def tell(store: Store, snapshot: Snapshot, track_id: str) -> Story:
    """Read the story of a track.

    Raises:
        StoreError: the track is not in the catalog; the message says what its ids look like.
    """
    track = _find(store, snapshot.get("catalog"), track_id)
    reader = _Reader(store, snapshot, track)
    songs = reader.rows("songs", None)
    split_round = (last_split(snapshot).round or 0) if snapshot.of("labels") else 0
    return Story(
        track=track,
        entry=Ledger(**reader.rows("ledger", None)[0]),
        classes=snapshot.catalog.classes,
        start_s=[row["start_s"] for row in reader.rows("segments", None, ["track_id", "start_s"])],
        cut=snapshot.get("segments").settings(MelConfig, "cut"),
        rounds=[
            TrackRound(
                verdict,
                [Label(**row) for row in reader.rows("labels", verdict.round)],
                [Score(**row) for row in reader.rows("scores", verdict.round)],
            )
            for verdict in read_rounds(store, snapshot)
        ],
        split_round=split_round,
        split=[Label(**row) for row in reader.rows("labels", split_round)],
        song=Song(**songs[0]) if songs else None,
        song_model=_hearing_model(snapshot.get("songs")) if songs else None,
    )


def draw(store: Store, snapshot: Snapshot, story: Story) -> bytes:
    """Draw a labelled track as PNG: spectrogram, posterior, timeline and noisy segments.

    Raises:
        StoreError: the track has no segments or no song, so that there is nothing to draw.
    """
    from sssl.plots.track import Bands, TrackView, track_png

    if story.song is None or story.used is None:
        raise StoreError(
            f"track {story.track.track_id} is not labelled: there is no timeline to draw"
        )
    features = store.read_part(snapshot.features.files[story.track.part], ["track_id", "log_mel"])
    own = features.filter(pc.equal(features["track_id"], story.track.track_id))
    unknown = [np.nan] * len(story.classes)
    entries = cast("list[dict[str, Any]]", story.song.timeline)
    bands: Bands = {
        "timeline": [(entry["start_s"], entry["end_s"], entry["label"]) for entry in entries]
    }
    hop_s = story.cut.start_distance_s
    noisy = [row.partition == "noisy" for row in story.split]
    if any(noisy):
        bands["noisy"] = [
            (start, start + hop_s, None)
            for start, flagged in zip(story.start_s, noisy, strict=True)
            if flagged
        ]
    view = TrackView(
        start_s=np.array(story.start_s),
        log_mel=log_mels(own),
        posterior=np.array([row.probabilities or unknown for row in story.used.scores]),
        bands=bands,
        segment_s=story.cut.segment_s,
        rate_hz=story.cut.rate_hz,
        frame_hop=story.cut.frame_hop,
    )
    return track_png(view, story.classes)


def _mean_score(before: Score, after: Score) -> Score:
    """Return a segment's score by two models together, by one of them where the other gave no
    posterior."""
    posteriors = [row.probabilities for row in (before, after) if row.probabilities is not None]
    losses = [row.loss for row in (before, after) if row.loss is not None]
    return replace(
        after,
        probabilities=np.mean(posteriors, axis=0).tolist() if posteriors else None,
        loss=float(-np.log(np.mean(np.exp(np.negative(losses))))) if losses else None,
        reason=None if posteriors else after.reason,
        model_id=f"{before.model_id}+{after.model_id}",
    )


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
        return list(self.table(table, round, columns).to_pylist())

    def table(self, table: str, round: int | None, columns: list[str] | None = None) -> pa.Table:
        content = self.store.read_part(
            self.snapshot.get(table, round).files[self.track.part], columns
        )
        return content.filter(pc.equal(content["track_id"], self.track.track_id))


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
