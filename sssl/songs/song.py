"""A track's row of `songs`: its emotion, how sure, and a timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import Catalog, Song
from schemas.summaries import SongsSummary, confusions_of
from sssl.arrays import Floats
from sssl.songs.classifier import SongModel
from sssl.songs.course import Segments, around, ends_s_of, numbers_of
from sssl.songs.linear import mean_embedding
from sssl.songs.settings import SongConfig
from sssl.songs.softmax import statistics

_MODEL = "model"
HUMAN = "human"
"""Whose label a song has that a listener gave, or the catalog locks."""


@dataclass(frozen=True)
class SongMaker:
    """All that turns the segment posteriors and the sound of a track into its row of `songs`."""

    model: SongModel
    settings: SongConfig
    classes: tuple[str, ...]
    segment_s: float
    round: int
    model_id: str

    def song(
        self,
        track_id: str,
        posterior: Floats,
        sound: Floats,
        start_s: Floats,
        split: str | None = None,
        fold: int | None = None,
        embedding: Floats | None = None,
        locked_label: str | None = None,
        decoded_s: float | None = None,
    ) -> Song:
        """Make the row of a track from its finite posteriors [N, C], their segments' sound [N, K],
        starts [N] and, where there is a front-end, embeddings [N, D]. Its timeline lasts for the
        `decoded_s` of the track, or else until its last segment ends.

        Its split and fold say which classifier may label it; new music has none. A label that a
        human locked is the song's, whatever the models think.
        """
        classifier = self.model.classifier_for(split, fold)
        features = statistics(posterior, sound)[None]
        own = None if embedding is None else mean_embedding(embedding)[None]
        (probabilities,) = classifier.probabilities(features, own)  # one row
        peak = int(probabilities.argmax())
        confidence = float(probabilities[peak])
        familiarity = None
        similarity = classifier.familiarity(features)
        if similarity is not None:
            familiarity = float(similarity[0])
        unlike = self._is_unlike(familiarity)
        smooth_segments = self.settings.smooth_segments
        by_segment = self._by_segment(posterior, sound, fold if split == "train" else None)
        entries = timeline(
            by_segment, start_s, self.segment_s, self.classes, smooth_segments, decoded_s
        )
        ends_s = ends_s_of(start_s, self.segment_s, decoded_s)
        segments = Segments(posterior, sound, start_s, ends_s, embedding)
        song = Song(
            track_id=track_id,
            label=self.classes[peak],
            confidence=confidence,
            probabilities=probabilities.tolist(),
            # Unlike anything labelled, a track's confidence has not been measured on anything.
            abstained=unlike or self.model.threshold.abstains(confidence),
            segments=len(posterior),
            timeline=entries,
            round=self.round,
            model_id=self.model_id,
            timeline_label=longest_label(entries),
            familiarity=familiarity,
            unlike=unlike,
            label_source=_MODEL,
            **numbers_of(classifier.regression, segments, smooth_segments),
        )
        if locked_label is None:
            return song
        return replace(
            song, label=locked_label, confidence=1.0, abstained=False, label_source=HUMAN
        )

    def _by_segment(self, posterior: Floats, sound: Floats, fold: int | None) -> Floats:
        """Return the posteriors [N, C] that a timeline goes by. The label of the track does not:
        its classifier knows the sound of the whole track."""
        second = self.model.second
        # A folder may have lost its `sound` since it was split: songs go by levels of bands then.
        if second is None or sound.shape[1] != len(second.mean):
            return posterior
        folds = np.full(len(posterior), -1 if fold is None else fold)
        return second.opinion.mixed(posterior, sound, folds)

    def _is_unlike(self, familiarity: float | None) -> bool:
        below = self.model.unlike_below
        if familiarity is None or below is None:
            return False
        return familiarity < below


def summarize_songs(
    songs: pa.Table, tracks: Sequence[Catalog], classes: Sequence[str]
) -> SongsSummary:
    """Sum up the songs of a part, and how their labels compare with those of labelled tracks."""
    track_ids = songs["track_id"].to_pylist()
    guesses = dict(zip(track_ids, _guesses(songs, classes), strict=True))
    return SongsSummary(
        classes=tuple(classes),
        tracks=len(songs),
        abstained=pc.sum(songs["abstained"]).as_py() or 0,
        confusions=confusions_of(tracks, guesses),
    )


def _guesses(songs: pa.Table, classes: Sequence[str]) -> list[str]:
    """Return what models take each song for. Where its label is a human's, that says nothing of how
    good they are."""
    labels: list[str] = songs["label"].to_pylist()
    if "label_source" not in songs.column_names:  # of an earlier schema version
        return labels
    guesses = []
    sources = songs["label_source"].to_pylist()
    probabilities = songs["probabilities"].to_pylist()
    for label, source, by_class in zip(labels, sources, probabilities, strict=True):
        peak = int(np.argmax(by_class))
        guesses.append(classes[peak] if source == HUMAN else label)
    return guesses


def timeline(
    posterior: Floats,
    start_s: Floats,
    segment_s: float,
    classes: Sequence[str],
    smooth_segments: int,
    decoded_s: float | None = None,
) -> list[dict[str, Any]]:
    """Return the emotions of a track in time order, from its segment posteriors [N, C] and starts
    [N].

    A segment's posterior is replaced by the mean over the `smooth_segments` segments around it,
    fewer at the ends of the track; a gap in time counts as none. Neighbours whose mean peaks at the
    same class become one entry, which lasts until the next segment starts, or for a segment; the
    last one lasts until `decoded_s`, where the track ends, if that is known. Its confidence is the
    average of those means, not calibrated.
    """
    smooth = _moving_average(posterior, smooth_segments)
    peaks = smooth.argmax(axis=1).tolist()
    ends_s = ends_s_of(start_s, segment_s, decoded_s)
    entries = []
    for peak, run in groupby(range(len(smooth)), key=peaks.__getitem__):
        rows = list(run)
        end_s = ends_s[rows[-1]]
        confidence = smooth[rows, peak].mean()
        entry: dict[str, Any] = {"start_s": float(start_s[rows[0]]), "end_s": float(end_s)}
        entry["label"] = classes[peak]
        entry["confidence"] = float(confidence)
        entries.append(entry)
    return entries


def longest_label(entries: Sequence[dict[str, Any]]) -> str:
    """Return the emotion that takes the most time in a timeline, the first to appear of several."""
    seconds: dict[str, float] = {}
    for entry in entries:
        label = entry["label"]
        before_s = seconds.get(label, 0.0)
        seconds[label] = before_s + entry["end_s"] - entry["start_s"]
    return max(seconds, key=lambda label: seconds[label])


def _moving_average(posterior: Floats, width: int) -> Floats:
    means = [posterior[rows].mean(axis=0) for rows in around(len(posterior), width)]
    return np.stack(means)
