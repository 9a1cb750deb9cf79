"""Containers made of chunks that say how long they are: WAV and its kin, AIFF, CAF, AU, MP4, ASF.

A chunk that should reach beyond the end of the file was cut. For PCM the missing bytes are seconds,
by the size of a sample as it is going to be decoded. Bytes per second in a header are a hint
(FFmpeg writes 16,000 for ADPCM of any rate), and so is the block size. The samples in `fact` are
asked for only where bytes are missing, to say how much that is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from sssl.audio.containers.reading import Length, Stream, peek, size_of

_W64_SUFFIX: Final = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_W64_DATA: Final = b"data" + _W64_SUFFIX
_ASF_DATA: Final = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MP4_BOXES: Final = (b"moov", b"moof", b"mdat")  # what lies behind the last box need not be one
_MOST_CHUNKS: Final = 4096

# Who writes while music plays leaves 0, about 2**31 or about 2**32 for a size that comes later, or
# never.
_PLACEHOLDERS: Final = (range(1), range(0x7FFF0000, 0x80010000), range(0xFFFF0000, 0x100000000))

# Some writers count a header into the size of the data: less than this is not missed.
_SLACK_BYTES: Final = 4096


class Layout(NamedTuple):
    """How a container lays out its chunks; `counts_header` where a size includes name and size."""

    header: str  # name and size, as struct names them
    start: int
    align: int = 1
    counts_header: bool = False


RIFF: Final = Layout("<4sI", 12, align=2)
RIFX: Final = Layout(">4sI", 12, align=2)
W64: Final = Layout("<16sQ", 40, align=8, counts_header=True)
CAF: Final = Layout(">4sq", 8)
ASF: Final = Layout("<16sQ", 0, counts_header=True)
_HEADS: Final = {
    b"RIFF": RIFF,
    b"RF64": RIFF,
    b"BW64": RIFF,
    b"RIFX": RIFX,
    b"riff": W64,
    b"FORM": RIFX,
}


class Chunk(NamedTuple):
    """A chunk, by the place of its content; `size` is what it says."""

    name: bytes
    start: int
    size: int

    def missing(self, file_size: int) -> int:
        """Return how many bytes of it lie beyond the end of the file."""
        return max(0, self.start + self.size - file_size)


def chunks(file: BinaryIO, layout: Layout) -> Iterator[Chunk]:
    """Yield the chunks of a file, wherever they lie in it, up to one that does not end in it."""
    at = layout.start
    end = size_of(file)
    header_bytes = struct.calcsize(layout.header)
    for _ in range(_MOST_CHUNKS):
        header = peek(file, at, header_bytes)
        if len(header) < header_bytes:
            return
        name, size = struct.unpack(layout.header, header)
        chunk = Chunk(name, at + header_bytes, size - header_bytes * layout.counts_header)
        yield chunk
        at = chunk.start + chunk.size + -(chunk.start + chunk.size) % layout.align
        if chunk.size < 0 or at >= end:
            return


def boxes(file: BinaryIO) -> Iterator[Chunk]:
    """Yield the boxes of an MP4; one without a size reaches to the end of the file."""
    at = 0
    end = size_of(file)
    for _ in range(_MOST_CHUNKS):
        header = peek(file, at, 16)
        if len(header) < 8:
            return
        size, name = struct.unpack_from(">I4s", header)
        if size == 1 and len(header) == 16:
            (size,) = struct.unpack_from(">Q", header, 8)
        chunk = Chunk(name, at, size or end - at)
        yield chunk
        at += chunk.size
        if chunk.size < 8 or at >= end:
            return


def wav_length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    """The size of the data, from `ds64` where the chunk has no room for it."""
    known: dict[bytes, bytes] = {}
    for chunk in chunks(file, _HEADS.get(head[:4], RIFF)):
        if chunk.name in (b"data", _W64_DATA):
            data = _with_long_size(chunk, known.get(b"ds64", b""))
            return _data_length(file, data, stream, known.get(b"fact", b""))
        if chunk.name in (b"ds64", b"fact"):
            known[chunk.name] = peek(file, chunk.start, min(chunk.size, 28))
    return Length()


def _with_long_size(data: Chunk, ds64: bytes) -> Chunk:
    if data.size != 0xFFFFFFFF or len(ds64) < 16:
        return data
    (size,) = struct.unpack_from("<Q", ds64, 8)
    return data._replace(size=size if size < 1 << 62 else 0)


def _data_length(file: BinaryIO, data: Chunk, stream: Stream, fact: bytes = b"") -> Length:
    if data.size < 0 or any(data.size in unknown for unknown in _PLACEHOLDERS):
        return Length()
    if stream.frame_bytes and stream.rate_hz:
        return Length(data.size / stream.frame_bytes / stream.rate_hz)
    if data.missing(size_of(file)) < _SLACK_BYTES:
        return Length(ended=True)
    samples = int.from_bytes(fact[:4], "little")
    is_known = samples not in (0, 0xFFFFFFFF) and stream.rate_hz
    return Length(samples / stream.rate_hz if is_known else None, False)


def aiff_length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    """The size of the sound data; frames in COMM stay 0 where the writer could not go back."""
    del head  # as for the others
    for chunk in chunks(file, RIFX):
        if chunk.name == b"SSND":
            sound = Chunk(
                chunk.name, chunk.start + 8, max(0, chunk.size - 8)
            )  # behind offset and block size
            return _data_length(file, sound, stream)
    return Length()


def caf_length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    """The size of the data; -1 if it reaches to the end of the file."""
    del head  # as for the others
    for chunk in chunks(file, CAF):
        if chunk.name == b"data":
            sound = Chunk(chunk.name, chunk.start + 4, chunk.size - 4)  # behind the number of edits
            return _data_length(file, sound, stream)
    return Length()


def dsf_length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    """The samples that `fmt` counts, of one bit each, over their own rate, not that of what is
    decoded."""
    del file, stream  # as for the others
    if len(head) < 72:
        return Length()
    sampling_hz, _, samples = struct.unpack_from("<IIQ", head, 56)
    return Length(samples / sampling_hz if samples and sampling_hz else None)


def au_data(head: bytes) -> Chunk | None:
    """Return the data of an AU file; None if the writer did not know its size."""
    offset, size = struct.unpack_from(">II", head, 4)
    if size in _PLACEHOLDERS[-1]:
        return None
    return Chunk(b".snd", offset, size)


def au_length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    """The size of the data in the header."""
    data = au_data(head)
    if data:
        return _data_length(file, data, stream)
    return Length()


def mp4_length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    """The length of the audio track, and whether all boxes end.

    The movie's own length is that of its longest track.
    """
    del head  # as for the others
    size = size_of(file)
    ended = not any(box.missing(size) for box in boxes(file) if box.name in _MP4_BOXES)
    return Length(stream.stream_s, ended)


def asf_length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    """Play duration (100 ns) less preroll (ms) of the file properties, if there is nothing but
    audio to play.

    A broadcast has none. With video, only whether the data ends can be told.
    """
    start = head.find(_ASF_FILE_PROPERTIES)
    if start < 0 or start + 92 > len(head):
        return Length()
    play, _, preroll, flags = struct.unpack_from("<QQQI", head, start + 64)
    if not play or flags & 1:
        return Length()
    if stream.alone:
        return Length(play / 1e7 - preroll / 1e3)
    size = size_of(file)
    ends = [not chunk.missing(size) for chunk in chunks(file, ASF) if chunk.name == _ASF_DATA]
    return Length(ended=ends[0] if ends else None)
