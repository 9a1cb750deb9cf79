"""What a container says of its length, so that missing audio is noticed.

FFmpeg estimates a duration by size, without saying so, for mp3, wav and wma; so their headers are read here.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from typing import BinaryIO, Final

_MAX_OGG_PAGE_BYTES: Final = 27 + 255 + 255 * 255
_DECLARING: Final = {"aiff", "flac", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "tta", "wv"}

# Writers into a pipe leave 0, 2**31 less a few pages, or 2**32 - 1 as the size of a wav's data.
_WAV_UNKNOWN_BYTES: Final = 0x7FFF0000
_ASF_FILE_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
# The side information before the tag has 9, 17 or 32 bytes; the last flag says that the frames are counted.
_MAX_MP3_FRAME_BYTES: Final = 4096
_XING: Final = re.compile(
    rb"\xff[\xe2-\xff]..(?:.{9}|.{17}|.{32})(?:Xing|Info)...[\1\3\5\7\x09\x0b\x0d\x0f](?P<frames>....)", re.DOTALL
)

# By chance, two headers in a row are common in compressed audio, and four are not.
_FRAME_SYNC: Final = re.compile(rb"\xff[\xe0-\xff]")
_FRAMES_IN_A_ROW: Final = 4
_FRAME_HEADER_BYTES: Final = 6
_TAIL_BYTES: Final = 16384
_MPEG_1_HZ: Final = (44100, 48000, 32000)
_MPEG_1_KBIT_S: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG_2_KBIT_S: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def declared(
    file: BinaryIO, head: bytes, container: str, rate_hz: int, duration_s: float | None
) -> tuple[float | None, bool | None]:
    """`AudioInfo.declared_s` and `.ended` of a container; `duration_s` is the decoder's opinion."""
    if head.startswith(b"OggS"):
        return _ogg_declared(file, head, rate_hz)
    if head[8:12] == b"WAVE":
        return _wav_declared_s(head), None
    if container == "asf":
        return _asf_declared_s(head), None
    if container == "mp3":
        start, tail = peek(file, _id3_bytes(head), _MAX_MP3_FRAME_BYTES), peek(file, -_TAIL_BYTES, _TAIL_BYTES)
        return _mp3_declared_s(start, rate_hz), _frames_end(tail, _mp3_frame_bytes)
    if container == "aac":
        return None, _frames_end(peek(file, -_TAIL_BYTES, _TAIL_BYTES), _adts_frame_bytes)
    return (duration_s if container in _DECLARING else None), None


def _ogg_declared(file: BinaryIO, head: bytes, rate_hz: int) -> tuple[float | None, bool]:
    """The position on the last page if that page is whole, is marked as the last and belongs to the only chain.

    Decoders count from the first page that they can read, and so do not miss what lay before it.
    """
    tail = peek(file, -_MAX_OGG_PAGE_BYTES, _MAX_OGG_PAGE_BYTES)
    page = tail[tail.rfind(b"OggS") :]
    whole = len(page) > 26 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
    if not whole or not page[5] & 4:
        return None, False
    (position,) = struct.unpack_from("<q", page, 6)
    only_chain = page[14:18] == head[14:18]  # the serial number
    clock_hz = 48_000 if b"OpusHead" in head[:64] else rate_hz
    return (position / clock_hz if only_chain and position > 0 and clock_hz else None), True


def _wav_declared_s(head: bytes) -> float | None:
    """The size of the data chunk over the bytes a second; None if the writer could not know the size."""
    offset, bytes_a_second = 12, 0
    while offset + 20 <= len(head):
        name, size = struct.unpack_from("<4sI", head, offset)
        if name == b"fmt ":
            bytes_a_second = struct.unpack_from("<I", head, offset + 16)[0]
        elif name == b"data":
            return size / bytes_a_second if bytes_a_second and 0 < size < _WAV_UNKNOWN_BYTES else None
        offset += 8 + size + size % 2
    return None


def _asf_declared_s(head: bytes) -> float | None:
    """Play duration (100 ns) less preroll (ms) of the file properties; None for a broadcast, which has none."""
    start = head.find(_ASF_FILE_PROPERTIES)
    if start < 0 or start + 92 > len(head):
        return None
    play, _, preroll, flags = struct.unpack_from("<QQQI", head, start + 64)
    return play / 1e7 - preroll / 1e3 if play and not flags & 1 else None


def _id3_bytes(head: bytes) -> int:
    """Size of the ID3v2 tag at the start: 28 bits, 7 a byte."""
    if head[:3] != b"ID3":
        return 0
    return 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def _mp3_declared_s(start: bytes, rate_hz: int) -> float | None:
    """The frames that the Xing or Info header in the first frame counts; they include the encoder's delay."""
    header = _XING.search(start)
    if not header or not rate_hz:
        return None
    frames = int.from_bytes(header["frames"], "big")
    frame_samples = 1152 if rate_hz >= 32000 else 576  # MPEG 1, or MPEG 2 at half the rates
    return frames * frame_samples / rate_hz if frames else None


def _frames_end(tail: bytes, frame_bytes: Callable[[bytes], int | None]) -> bool | None:
    """Whether the last frame of a raw stream is whole; None if no frames are found, or something follows them."""
    for sync in _FRAME_SYNC.finditer(tail):
        at, frames = sync.start(), 0
        while size := frame_bytes(tail[at : at + _FRAME_HEADER_BYTES]):
            at += size
            frames += 1
        if frames >= _FRAMES_IN_A_ROW:
            rest = tail[at:]
            if rest:  # less than a header, or something else
                return False if rest[0] == 0xFF and len(rest) < _FRAME_HEADER_BYTES else None
            return at == len(tail)
    return None


def _mp3_frame_bytes(header: bytes) -> int | None:
    """Length of the MPEG layer III frame that starts with `header`; None if it does not start one."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, bit_rate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bit_rate in (0, 15) or rate == 3:
        return None
    mpeg_1 = version == 3
    kbit_s = (_MPEG_1_KBIT_S if mpeg_1 else _MPEG_2_KBIT_S)[bit_rate - 1]
    rate_hz = _MPEG_1_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return (144_000 if mpeg_1 else 72_000) * kbit_s // rate_hz + (header[2] >> 1 & 1)


def _adts_frame_bytes(header: bytes) -> int | None:
    """Length of the raw AAC frame that starts with `header`; None if it does not start one."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return None
    return (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5


def peek(file: BinaryIO, start: int, size: int) -> bytes:
    """Read at `start` (from the end if negative) without moving the position, which FFmpeg counts on."""
    position = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(start if start >= 0 else max(0, end + start))
    data = file.read(size)
    file.seek(position)
    return data
