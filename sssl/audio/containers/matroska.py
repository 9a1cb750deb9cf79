"""Matroska and WebM: a segment that says how many bytes it has, and how long its longest track lasts.

The bytes tell whether the file was cut; a live recording does not have them. Of the seconds, those
count that are the track's own: its tag DURATION (FFmpeg and mkvmerge write it), or the segment's if
there is no other track; less the time at which the track begins, for both are counted from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, Final

from sssl.audio.containers.reading import Length, Stream, size_of

_EBML: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT: Final = b"\x18\x53\x80\x67"


def matroska_length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    """The track's own length, and whether the segment ends within the file."""
    declared_s = _declared_s(stream)
    at, size = _element(head, len(_EBML))
    if not head.startswith(_EBML) or size is None or head[at + size : at + size + 4] != _SEGMENT:
        return Length(declared_s)
    start, segment_bytes = _element(head, at + size + len(_SEGMENT))
    return Length(declared_s, None if segment_bytes is None else start + segment_bytes <= size_of(file))


def tagged_s(metadata: Mapping[str, str]) -> float | None:
    """Return what the tag DURATION of a track says, as in 00:03:12.345000000; None if there is none."""
    for name, value in metadata.items():
        if name.upper().partition("-")[0] == "DURATION":
            try:
                hours, minutes, seconds = map(float, value.split(":"))
            except ValueError:
                return None
            return hours * 3600 + minutes * 60 + seconds
    return None


def _declared_s(stream: Stream) -> float | None:
    known = [stream.stream_s, stream.container_s] if stream.stream_s or stream.alone else []
    lengths = [seconds for seconds in known if seconds]
    return max(0.0, min(lengths) - stream.start_s) if lengths else None


def _element(head: bytes, at: int) -> tuple[int, int | None]:
    """Return where the content of an element begins, and its size, from the place of that size; None if it has none."""
    first = head[at] if at < len(head) else 0
    width = 9 - first.bit_length()
    size = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    unknown = not first or len(head) < at + width or size == (1 << 7 * width) - 1
    return at + width, None if unknown else size
