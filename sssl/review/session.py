"""One person's review: what the page shows, what was said so far, and what is said now."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from sssl.catalog.corrections import Correction
from sssl.errors import CatalogError
from sssl.plots.colors import color_of, ink_on
from sssl.report.audio import TYPES
from sssl.report.browse.songs import STRIP_PARTS
from sssl.review.answers import Answers, by_track, label_of, now
from sssl.review.queue import Item, Queue, Track
from sssl.store.removals import is_removed
from sssl.urls import file_name, suffix_of

Json = dict[str, Any]


@dataclass
class Session:
    """A queue, the file that answers go to, and who gives them."""

    queue: Queue
    answers: Answers
    who: str
    taken_down: Callable[[], Container[str]] = frozenset
    """Looks up the hashes of the ids that were taken down, maybe since the page was opened."""
    given: int = 0
    """Answers that were written since the start."""
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._tracks = list(self.queue.tracks.values())
        self._places = {track.track_id: place for place, track in enumerate(self._tracks)}

    @property
    def tracks(self) -> Sequence[Track]:
        """The tracks, which the page knows by their places."""
        return self._tracks

    def content(self) -> Json:
        """Return what the page shows and what does not change."""
        classes = self.answers.classes
        colors = [color_of(place) for place in range(len(classes))]
        removed = self.taken_down()
        return {
            "classes": classes,
            "colors": colors,
            "inks": [ink_on(color) for color in colors],
            "strip_parts": STRIP_PARTS,
            "items": [self._shown_item(item) for item in self.queue.items],
            "tracks": [_shown_track(track, removed) for track in self._tracks],
        }

    def state(self) -> Json:
        """Return which tracks were taken down, the label that each item was given, or null, and
        what was said of each track.

        Raises:
            CatalogError: the file of corrections cannot be read.
        """
        standing = by_track(self.answers.standing())
        removed = self.taken_down()
        items = self.queue.items
        answers = [item.answer_in(standing.get(item.track_id, ())) for item in items]
        gone = []
        said = []
        for track in self._tracks:
            gone.append(is_removed(track.track_id, removed))
            own = standing.get(track.track_id, ())
            said.append([_shown_answer(one) for one in own])
        return {"gone": gone, "answers": answers, "said": said}

    def is_gone(self, place: int) -> bool:
        """Whether a track was taken down, maybe since the page was opened."""
        return is_removed(self._tracks[place].track_id, self.taken_down())

    def say(
        self, place: int, start_s: float | None, end_s: float | None, label: str | None
    ) -> Json:
        """Write down what somebody says of a track or a passage of it; without a label that what
        was said does not count. Returns the label that stood before.

        Raises:
            CatalogError: there is no such track, passage or class, the track was taken down, or the
                file cannot be read.
            OSError: it could not be written.
        """
        said = self._checked(place, start_s, end_s, label)
        with self._lock:
            before = label_of(self.answers.standing(), said)
            self.answers.append([said])
            self.given += 1
        return {"before": before}

    def finish(self) -> None:
        """Wait until an answer that is being written is on the disk."""
        with self._lock:
            pass

    def _checked(
        self, place: int, start_s: float | None, end_s: float | None, label: str | None
    ) -> Correction:
        if not 0 <= place < len(self._tracks):
            raise CatalogError(f"there is no track {place}")
        if self.is_gone(place):
            raise CatalogError("this track was taken down: nothing is written of it")
        if label is not None and label not in self.answers.classes:
            raise CatalogError(f"{label} is no class of {', '.join(self.answers.classes)}")
        if (start_s is None) != (end_s is None):
            raise CatalogError("a passage has a start and an end")
        if start_s is not None and end_s is not None and not 0 <= start_s < end_s < math.inf:
            raise CatalogError("a passage ends after its start")
        ends_s = self._tracks[place].length_s
        if start_s is not None and start_s >= ends_s:
            raise CatalogError(f"the song ends after {ends_s:.0f} s")
        return Correction(
            self._tracks[place].track_id, _single(start_s), _single(end_s), label, self.who, now()
        )

    def _shown_item(self, item: Item) -> Json:
        return {
            "kind": item.kind,
            "track": self._places[item.track_id],
            "start_s": item.start_s,
            "end_s": item.end_s,
            "label": item.label,
            "confidence": None if item.confidence is None else round(item.confidence, 3),
            "catalog_label": item.catalog_label,
            "segments": item.segments,
            "abstained": item.abstained,
            "play_from_s": item.play_from_s,
        }


def _shown_track(track: Track, removed: Container[str]) -> Json:
    """Return what the page shows of a track; of one that was taken down, neither its id nor its
    file."""
    is_gone = is_removed(track.track_id, removed)
    return {
        "track_id": "" if is_gone else track.track_id,
        "file": "" if is_gone else file_name(track.uri),
        "group": None if is_gone else track.group,
        "label": track.label,
        "probabilities": [round(share, 3) for share in track.probabilities],
        "length_s": round(track.length_s, 1),
        "timeline": track.timeline,
        "playable": suffix_of(track.uri).lower() in TYPES,
    }


def _shown_answer(said: Correction) -> Json:
    return {"start_s": said.start_s, "end_s": said.end_s, "label": said.label, "who": said.who}


def _single(seconds: float | None) -> float | None:
    """Round to single precision, as the file and the catalog have seconds."""
    return None if seconds is None else float(np.float32(seconds))
