"""What a reader of the report can listen to: audio files on this machine, by links relative to the
page."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from sssl.store.media.medium import Medium
from sssl.urls import local_path

TYPES = {
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
}
"""What browsers play: media types by suffix."""


@dataclass(frozen=True)
class Passage:
    """A stretch of neighbouring segments that inherited a label and got another."""

    start_s: float
    end_s: float
    inherited: str
    learned: str

    @property
    def fragment(self) -> str:
        """The stretch as a media fragment of a link (W3C, Media Fragments URI 1.0)."""
        return f"#t={self.start_s:.1f},{self.end_s:.1f}"


def link(medium: Medium, uri: str) -> str | None:
    """Link from a page in an output folder to a file, None if one of them is not on this machine or
    not playable."""
    path = local_path(uri)
    if path is None or not path.lower().endswith(tuple(TYPES)) or not os.path.isfile(path):
        return None
    return medium.link(path)


def passages(
    segments: Iterable[tuple[float, str | None, str | None]], distance_s: float, most: int
) -> list[Passage]:
    """Find the longest stretches of segments (start, inherited, learned) that changed their label,
    in time order."""
    found: list[Passage] = []
    for (old, new), run in groupby(segments, key=lambda segment: segment[1:]):
        starts = [start for start, _, _ in run]
        if old and new and old != new:
            found.append(Passage(starts[0], starts[-1] + distance_s, old, new))
    longest = sorted(found, key=lambda passage: passage.start_s - passage.end_s)[:most]
    return sorted(longest, key=lambda passage: passage.start_s)
