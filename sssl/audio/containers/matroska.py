"""Matroska and WebM: a segment that says how many bytes it has, and how long its longest track
lasts.

The bytes tell whether the file was cut; a live recording does not have them. Of the seconds, those
count that are the track's own: its tag DURATION (FFmpeg and mkvmerge write it), or the segment's if
there is no other track; less the time at which the track begins, for both are counted from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, Final

from sssl.audio.containers.reading import Length, Stream, peek, size_of

_EBML: Final = b"\x1a\x45\xdf\xa3"
_SEGMENT: Final = b"\x18\x53\x80\x67"
_OF_SEGMENT: Final = tuple(map(bytes.fromhex, (
    "114d9b74", "1549a966", "1654ae6b", "1f43b675", "1c53bb6b", "1254c367", "1043a770",
    "1941a469", "ec", "bf",
)))  # fmt: skip
_MOST_ELEMENTS: Final = 4096


def matroska_length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    """The track's own length, and whether the segment ends within the file."""
    declared_s = _declared_s(stream)
    at, size = _element(head, len(_EBML))
    if not head.startswith(_EBML) or size is None:
        return Length(declared_s)
    end = at + size
    if not head.startswith(_SEGMENT, end):
        return Length(declared_s)
    start, segment_bytes = _element(head, end + len(_SEGMENT))
    if segment_bytes is None:
        return Length(declared_s, _live_ended(file, start))
    is_whole = start + segment_bytes <= size_of(file)
    return Length(declared_s, is_whole)


def tagged_s(metadata: Mapping[str, str]) -> float | None:
    """Return what the tag DURATION of a track says, as in 00:03:12.345000000; None if there is
    none."""
    for name, value in metadata.items():
        if name.upper().partition("-")[0] == "DURATION":
            try:
                hours, minutes, seconds = map(float, value.split(":"))
            except ValueError:
                return None
            return hours * 3600 + minutes * 60 + seconds
    return None


def _declared_s(stream: Stream) -> float | None:
    known = [stream.tagged_s, stream.container_s] if stream.tagged_s or stream.alone else []
    lengths = [seconds for seconds in known if seconds]
    if lengths:
        return max(0.0, min(lengths) - stream.start_s)
    return None


def _live_ended(file: BinaryIO, start: int) -> bool | None:
    """Whether the last element of a segment without a size is whole; None if that cannot be
    told."""
    end = size_of(file)
    for _ in range(_MOST_ELEMENTS):
        header = peek(file, start, 12)
        name = next((name for name in _OF_SEGMENT if header.startswith(name)), b"")
        content, size = _element(header, len(name))
        if not name or size is None:  # padding, or a cluster without a size
            return None
        start += content + size
        if start >= end:
            return start == end
    return None


def _element(head: bytes, at: int) -> tuple[int, int | None]:
    """Return where the content of an element begins, and its size, from the place of that size;
    None if it has none."""
    first = head[at] if at < len(head) else 0
    # EBML: the number of zero bits before the first one says how many bytes the size has.
    width = 9 - first.bit_length()
    field = head[at : at + width]
    # All ones mean that the size is not known, as in a live recording.
    ones = (1 << 7 * width) - 1
    size = int.from_bytes(field, "big") & ones
    if not first or len(field) < width or size == ones:
        return at + width, None
    return at + width, size
