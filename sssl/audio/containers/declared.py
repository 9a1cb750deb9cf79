"""What a container says of its length, so that missing audio is noticed, and nothing else is.

What is trusted, in this order:

1. Bytes. A chunk, box, page, frame or segment that should reach beyond the end of the file was cut.
2. The length that the container has for this audio stream.

Never the length of the whole file, which is that of its longest stream, video and all. Never an
estimate by size and bit rate, which FFmpeg makes for mp3, wav and wma without saying so. Never a
size that the writer fills in at the end, as long as it is not filled in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final

from sssl.audio.containers import chunks, frames, matroska, ogg
from sssl.audio.containers.reading import Length, Stream, peek, size_of

Reader = Callable[[BinaryIO, bytes, Stream], Length]


def _in_header(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    """Number of samples in a header that every writer fills in or marks as unknown: FLAC, TTA,
    WavPack."""
    del file, head  # as for the others
    return Length(stream.stream_s)


_READERS: Final[dict[str, Reader]] = {
    "aac": frames.adts_length,
    "ac3": frames.ac3_length,
    "aiff": chunks.aiff_length,
    "asf": chunks.asf_length,
    "au": chunks.au_length,
    "caf": chunks.caf_length,
    "dsf": chunks.dsf_length,
    "eac3": frames.ac3_length,
    "flac": _in_header,
    "matroska,webm": matroska.matroska_length,
    "mov,mp4,m4a,3gp,3g2,mj2": chunks.mp4_length,
    "mp3": frames.mpeg_length,
    "ogg": ogg.ogg_length,
    "tta": _in_header,
    "w64": chunks.wav_length,
    "wav": chunks.wav_length,
    "wavex": chunks.wav_length,
    "rf64": chunks.wav_length,
    "wv": _in_header,
}
"""By the names of FFmpeg's and libsndfile's containers."""

# Containers that no decoder finds behind a tag of MP3s, which taggers put in front of anything.
_BEHIND_A_TAG: Final = (
    b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"FORM", b"OggS", b".snd", b"caff", b"DSD ",
    b"wvpk",
    b"\x1a\x45\xdf\xa3", b"\x30\x26\xb2\x75",
)  # fmt: skip
_MOST_TAGS: Final = 8
_MAX_PADDING_BYTES: Final = 4096  # between a tag and what follows it

# What trails these may fail to decode without being damage: tags and padding are read as if they
# were frames.
TRAILED: Final = ("aac", "ac3", "eac3", "mp3", "tta", "wv")
FRAMES: Final = ("aac", "ac3", "eac3", "mp3")


def length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    """Return what a file declares, and whether its end is there."""
    reader = _READERS.get(stream.container)
    if reader:
        return reader(file, head, stream)
    return Length()


def extent(file: BinaryIO) -> tuple[int, int]:
    """Return where in a file decoders are to begin and to stop.

    Without tags in front of what takes none, and without what lies behind the last page of an Ogg
    or behind the data of an AU, which would be taken for audio.
    """
    start = _start(file)
    size = size_of(file)
    head = peek(file, start, 32)
    if head.startswith(b"OggS"):
        return start, ogg.ogg_stop(file) or size
    if head.startswith(b".snd") and len(head) >= 24 and (data := chunks.au_data(head)):
        return start, min(size, start + data.start + data.size)
    return start, size


def _start(file: BinaryIO) -> int:
    start = 0
    for _ in range(_MOST_TAGS):
        tag = frames.id3_bytes(peek(file, start, 10))
        if not tag:
            break
        start += tag
    if not start:
        return 0
    rest = peek(file, start, _MAX_PADDING_BYTES)
    if rest[4:8] == b"ftyp":
        return start
    found = rest.lstrip(b"\0")
    if found.startswith(_BEHIND_A_TAG):
        return start + len(rest) - len(found)
    return 0
