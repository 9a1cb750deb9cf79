"""Which unlabelled tracks to label next: half of them stand for many others, half lie between two
emotions.

Active learning calls the former representative and the latter uncertain sampling (Settles, "Active
Learning Literature Survey", 2009); what is only uncertain is often odd, what is only typical is
often known already.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from sklearn.cluster import KMeans

from schemas.summaries import CatalogSummary
from sssl.arrays import Floats, real_lists, track_numbers
from sssl.audio.sound import sound_features
from sssl.catalog.committed import read_part
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot

# Unlabelled tracks that are looked at; of larger catalogs a sample by the checksum of their ids.
_MOST_CANDIDATES = 50_000
# Standard deviations that a measure of the sound counts at most, as in the song classifier.
_CLIP = 3.0


class Candidate(NamedTuple):
    """An unlabelled track with what its song says, and its vector [K]: its mean sound."""

    track_id: str
    uri: str
    group_id: str
    guess: str
    """Class that the song has."""
    runner_up: str
    """Class that is second."""
    confidence: float
    margin: float
    """Probability of the guess over that of the runner-up."""
    vector: Floats


@dataclass(frozen=True)
class Suggestion:
    """A track to label, and why."""

    track_id: str
    guess: str
    confidence: float
    because: str
    uri: str


def read_candidates(store: Store, snapshot: Snapshot, seed: int = 0) -> list[Candidate]:
    """Read the unlabelled tracks that have a song.

    Raises:
        StoreError: there are no songs.
    """
    catalog = snapshot.get("catalog").about(CatalogSummary)
    unlabelled = catalog.tracks - sum(catalog.labelled.values())
    every = max(1, math.ceil(unlabelled / _MOST_CANDIDATES))
    found = []
    columns = ["track_id", "label", "probabilities"]
    for part, songs in store.iter_parts(snapshot.get("songs"), columns):
        for candidate in _of_part(store, snapshot, part, songs, catalog.classes):
            # By a checksum the same tracks are in the sample whatever else there is.
            checksum = zlib.crc32(f"{seed} {candidate.track_id}".encode())
            if checksum % every == 0:
                found.append(candidate)
    return found


def _of_part(
    store: Store, snapshot: Snapshot, part: int, songs: pa.Table, classes: Sequence[str]
) -> Iterator[Candidate]:
    unlabelled = {
        track.track_id: track
        for track in read_part(store, snapshot.get("catalog"), part)
        if not track.label
    }
    if not unlabelled:
        return
    probabilities = real_lists(songs, "probabilities")
    vectors = _mean_sounds(store, snapshot, part)
    for track_id, by_class in zip(songs["track_id"].to_pylist(), probabilities, strict=True):
        if track_id in unlabelled:
            second, first = np.argsort(by_class, kind="stable")[-2:]
            yield Candidate(
                track_id=track_id,
                uri=unlabelled[track_id].uri,
                group_id=unlabelled[track_id].group_id,
                guess=classes[first],
                runner_up=classes[second],
                confidence=float(by_class[first]),
                margin=float(by_class[first] - by_class[second]),
                # Where the sound was not measured, tracks are alike whose emotions are.
                vector=vectors.get(track_id, np.log(by_class + 1e-6)),
            )


def _mean_sounds(store: Store, snapshot: Snapshot, part: int) -> dict[str, Floats]:
    """Return the mean sound [K] of each track of a part; nothing for folders from before it was
    measured."""
    segments = store.read_part(snapshot.get("segments").files[part], ["track_id", "sound"])
    described = sound_features(segments)
    if described is None:
        return {}
    sound = described[1].astype(np.float64)
    track = track_numbers(segments)
    ids = segments["track_id"].unique().to_pylist()
    return {
        track_id: np.nanmean(sound[track == number], axis=0) for number, track_id in enumerate(ids)
    }


def suggest(candidates: Sequence[Candidate], count: int, seed: int = 0) -> list[Suggestion]:
    """Return so many tracks to label next, no two of a group (artist, album) as long as there are
    other groups."""
    chosen = _Chosen(candidates, count)
    # Half of them representative; the margin fills what groups or clusters leave over.
    for cluster in _clusters(candidates, count // 2, seed):
        chosen.add_first(cluster, _what_it_stands_for(cluster))
    margins = [candidate.margin for candidate in candidates]
    by_margin = np.argsort(margins, kind="stable").tolist()
    for index in by_margin:
        one = candidates[index].guess
        other = candidates[index].runner_up
        chosen.add_first([index], f"between {one} and {other}")
    # Only now a second track of a group.
    for index in by_margin:
        chosen.add(index, f"between {candidates[index].guess} and {candidates[index].runner_up}")
    return chosen.suggestions


def _what_it_stands_for(cluster: Sequence[int]) -> str:
    if len(cluster) == 1:
        return "sounds unlike all others"
    return f"stands for {len(cluster)} tracks that sound alike"


class _Chosen:
    """What has been chosen so far, up to a number."""

    def __init__(self, candidates: Sequence[Candidate], count: int) -> None:
        self._candidates = candidates
        self._count = count
        self._because: dict[int, str] = {}
        self._groups: set[str] = set()

    def add_first(self, indices: Sequence[int], because: str) -> None:
        """Choose the first of some candidates whose group has none yet; none if there is no
        such."""
        for index in indices:
            if self._candidates[index].group_id not in self._groups:
                self.add(index, because)
                return

    def add(self, index: int, because: str) -> None:
        """Choose a candidate, unless it was chosen, or enough are."""
        if index not in self._because and len(self._because) < self._count:
            self._because[index] = because
            self._groups.add(self._candidates[index].group_id)

    @property
    def suggestions(self) -> list[Suggestion]:
        return [
            Suggestion(chosen.track_id, chosen.guess, chosen.confidence, because, chosen.uri)
            for chosen, because in (
                (self._candidates[index], because) for index, because in self._because.items()
            )
        ]


def _clusters(candidates: Sequence[Candidate], count: int, seed: int) -> list[list[int]]:
    """Return so many clusters of candidates, the largest first; each is sorted by the distance to
    its centre."""
    vectors = np.stack([candidate.vector for candidate in candidates])
    middle = np.nanmedian(vectors, axis=0)
    spread = np.maximum(np.nanstd(vectors, axis=0), 1e-9)  # 1e-9: where all are alike
    deviations = (vectors - middle) / spread
    standardized = np.nan_to_num(np.clip(deviations, -_CLIP, _CLIP))
    distinct = np.unique(standardized, axis=0)
    clusters_there = min(count, len(distinct))
    if clusters_there < 1:
        return []
    fitted = KMeans(clusters_there, n_init=1, random_state=seed).fit(standardized)
    centres = fitted.cluster_centers_[fitted.labels_]
    distance: Floats = np.linalg.norm(standardized - centres, axis=1)
    by_distance = np.argsort(distance, kind="stable")
    clusters: dict[int, list[int]] = {}
    for index in by_distance.tolist():
        label = int(fitted.labels_[index])
        clusters.setdefault(label, []).append(index)
    return sorted(clusters.values(), key=lambda cluster: (-len(cluster), cluster[0]))
