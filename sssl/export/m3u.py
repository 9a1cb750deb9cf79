"""Songs as entries of extended M3U."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from schemas import Song
from sssl.urls import local_path
from sssl.words import printable


class Entry(NamedTuple):
    """A song in a playlist."""

    confidence: float
    track_id: str
    place: str
    """Path, or URI where it is no local file."""
    duration_s: float

    @classmethod
    def of(cls, song: Song, uri: str, duration_s: float) -> Entry:
        path = local_path(uri)  # players want paths
        place = (
            uri if path is None else os.path.abspath(path)
        )  # to a player a path is one below the playlist
        return cls(song.confidence, song.track_id, place, duration_s)

    @property
    def can_be_written(self) -> bool:
        """Whether its place is a line, as a playlist wants it."""
        return "\n" not in self.place and "\r" not in self.place

    def lines(self, name: str) -> Iterator[str]:
        """Yield its lines, with the name of its emotion."""
        yield (
            f"#EXTINF:{round(self.duration_s)},{printable(self.track_id)} ({name}"
            f" {self.confidence:.2f})"
        )
        yield self.place


def surest_first(entries: Iterable[Entry]) -> list[Entry]:
    """Sort entries by confidence, and those that are alike by id."""
    return sorted(entries, key=lambda entry: (-entry.confidence, entry.track_id))
