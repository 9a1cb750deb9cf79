"""Small reads of a file that a decoder reads, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple


class Length(NamedTuple):
    """`AudioInfo.declared_s` and `AudioInfo.ended`; None where a file cannot tell."""

    declared_s: float | None = None
    ended: bool | None = None


class Stream(NamedTuple):
    """What a decoder says of the audio stream that it is going to decode, before it has decoded
    any."""

    container: str  # FFmpeg's or libsndfile's name
    rate_hz: int
    frame_bytes: int | None  # of one sample of all channels, if it is PCM
    stream_s: float | None  # length that the container has for this stream
    tagged_s: float | None = None  # by a tag of this stream
    container_s: float | None = None  # that of all its streams
    start_s: float = 0.0
    alone: bool = True  # no other stream in the file, such as video


def peek(file: BinaryIO, start: int, size: int) -> bytes:
    """Read at `start` (from the end if negative) without moving the position, which FFmpeg counts
    on."""
    position = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(start if start >= 0 else max(0, end + start))
    data = file.read(size)
    file.seek(position)
    return data


def backwards(file: BinaryIO, stop: int, block_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield blocks from `stop` to the beginning of a file, each with its place.

    They grow: most callers need only the first.
    """
    while stop:
        start = max(0, stop - block_bytes)
        yield start, peek(file, start, stop - start)
        stop = start
        block_bytes = min(4 * block_bytes, 1 << 22)


def size_of(file: BinaryIO) -> int:
    """Return a file's size without moving the position."""
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(position)
    return size
