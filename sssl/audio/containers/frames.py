"""Raw streams of frames: MPEG audio, ADTS, AC-3.

They have no length but that in an MP3's Xing or VBRI header. Either the last frame is whole, or the
file was cut. Tags and padding lie behind the last frame, and between files that were joined.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO, Final

from sssl.audio.containers.reading import Length, Stream, backwards, peek, size_of

# Xing's tag lies behind side information of 9, 17 or 32 bytes; its last flag says that it counts
# the frames. VBRI's tag has a place of its own.
_MAX_MP3_FRAME_BYTES: Final = 4096
_XING: Final = re.compile(
    rb"\xff[\xe2-\xff].."
    rb"(?:(?:.{9}|.{17}|.{32})(?:Xing|Info)...[\1\3\5\7\x09\x0b\x0d\x0f](?P<xing>....)"
    rb"|.{32}VBRI.{10}(?P<vbri>....))",
    re.DOTALL,
)

# By chance, two headers in a row are common in compressed audio, and four are not.
_FRAME_SYNC: Final = re.compile(rb"\xff[\xe0-\xff]|\x0b\x77")
_FRAMES_IN_A_ROW: Final = 4
_FRAME_HEADER_BYTES: Final = 8
_TAIL_BYTES: Final = 16384

# A whole frame may end with zeros of its own, in front of padding. If they are more than this share
# of it, nobody can tell whether it was cut.
_ZERO_SHARE: Final = 1 / 8

_MPEG_1_HZ: Final = (44100, 48000, 32000)
_MPEG_2_KBIT_S: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBIT_S: Final = {  # by MPEG 1 or not, and layer
    (True, 1): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): _MPEG_2_KBIT_S,
    (False, 3): _MPEG_2_KBIT_S,
}
_AC3_KBIT_S: Final = (
    32,
    40,
    48,
    56,
    64,
    80,
    96,
    112,
    128,
    160,
    192,
    224,
    256,
    320,
    384,
    448,
    512,
    576,
    640,
)

_ID3V1_BYTES: Final = 128
_APE_BYTES: Final = 32  # of the header and of the footer


def mpeg_length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    """The frames that the header in the first frame counts, and whether the last frame is whole."""
    start = peek(file, id3_bytes(head), _MAX_MP3_FRAME_BYTES)
    return Length(_mp3_declared_s(start, stream.rate_hz), _frames_end(file, _mpeg_frame_bytes))


def adts_length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    del head, stream  # as for the others
    return Length(ended=_frames_end(file, _adts_frame_bytes))


def ac3_length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    del head, stream  # as for the others
    return Length(ended=_frames_end(file, _ac3_frame_bytes))


def id3_bytes(head: bytes) -> int:
    """Size of the ID3v2 tag at the start, with its footer: 28 bits, 7 a byte; 0 if there is
    none."""
    if head[:3] != b"ID3" or len(head) < 10 or max(head[6:10]) > 0x7F:
        return 0
    size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size + 10 * (head[5] >> 4 & 1)


def tag_bytes(data: bytes) -> int:
    """Size of the tag that starts with `data`; 0 if it is none."""
    if data.startswith(b"TAG"):
        return _ID3V1_BYTES
    if data.startswith(b"LYRICSBEGIN"):  # Lyrics3, which has its size at its end
        return len(data)
    if data.startswith(b"APETAGEX") and len(data) >= 16:
        return int.from_bytes(data[12:16], "little") + _APE_BYTES
    return id3_bytes(data)


def _mp3_declared_s(start: bytes, rate_hz: int) -> float | None:
    """The frames that the header in the first frame counts; they include the encoder's delay."""
    header = _XING.search(start)
    if not header or not rate_hz:
        return None
    frames = int.from_bytes(header["xing"] or header["vbri"], "big")
    frame_samples = 1152 if rate_hz >= 32000 else 576  # MPEG 1, or MPEG 2 at half the rates
    if frames:
        return frames * frame_samples / rate_hz
    return None


def _frames_end(file: BinaryIO, frame_bytes: Callable[[bytes], int | None]) -> bool | None:
    """Whether the last frame is whole; None if no frames are found, or something unknown follows
    them."""
    end = _without_tags(file)
    stop = _without_padding(file, end)
    padding = end - stop
    tail = peek(file, max(0, stop - _TAIL_BYTES), min(stop, _TAIL_BYTES))
    for sync in _FRAME_SYNC.finditer(tail):
        at = sync.start()
        sizes = [0]
        while size := frame_bytes(tail[at : at + _FRAME_HEADER_BYTES]):
            at += size
            sizes.append(size)
        if len(sizes) <= _FRAMES_IN_A_ROW:
            continue
        if at < len(tail):
            return _is_beside(tail[at:])
        zeros = at - len(tail)
        if zeros > padding:
            return False
        if zeros == padding or zeros <= _ZERO_SHARE * sizes[-1]:
            return True
        return None
    return None


def _without_tags(file: BinaryIO) -> int:
    """Return where the tags at the end of a file begin: ID3v1, and APEv2, whose pictures may be
    large."""
    end = size_of(file)
    if peek(file, max(0, end - _ID3V1_BYTES), 3) == b"TAG":
        end -= _ID3V1_BYTES
    footer = peek(file, max(0, end - _APE_BYTES), _APE_BYTES)
    if footer.startswith(b"APETAGEX"):
        has_header = footer[23] >> 7
        end -= int.from_bytes(footer[12:16], "little") + _APE_BYTES * has_header
    return max(0, end)


def _without_padding(file: BinaryIO, end: int) -> int:
    """Return where the zeros in front of `end` begin."""
    for start, block in backwards(file, end, _TAIL_BYTES):
        if kept := block.rstrip(b"\0"):
            return start + len(kept)
    return 0


def _is_beside(rest: bytes) -> bool | None:
    """Whether what follows the last whole frame is none; None if that cannot be told."""
    if rest[0] in (0xFF, 0x0B) and len(rest) < _FRAME_HEADER_BYTES:
        return False
    while size := tag_bytes(rest):
        rest = rest[size:]
    if not rest.strip(b"\0\r\n"):
        return True
    return None


def _mpeg_frame_bytes(header: bytes) -> int | None:
    """Length of the MPEG audio frame that starts with `header`; None if it does not start one."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version = header[1] >> 3 & 3
    layer = 4 - (header[1] >> 1 & 3)
    bit_rate = header[2] >> 4
    rate = header[2] >> 2 & 3
    padding = header[2] >> 1 & 1
    if version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return None
    mpeg_1 = version == 3
    kbit_s = _KBIT_S[mpeg_1, layer][bit_rate - 1]
    rate_hz = _MPEG_1_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    if layer == 1:
        return (12_000 * kbit_s // rate_hz + padding) * 4
    return (144_000 if mpeg_1 or layer == 2 else 72_000) * kbit_s // rate_hz + padding


def _adts_frame_bytes(header: bytes) -> int | None:
    """Length of the raw AAC frame that starts with `header`; None if it does not start one."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return None
    return (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5


def _ac3_frame_bytes(header: bytes) -> int | None:
    """Length of the AC-3 or E-AC-3 frame that starts with `header`; None if it does not start
    one."""
    if len(header) < 6 or header[:2] != b"\x0b\x77":
        return None
    if header[5] >> 3 > 10:  # E-AC-3
        return 2 * (((header[2] & 7) << 8 | header[3]) + 1)
    rate = header[4] >> 6
    code = header[4] & 63
    if rate == 3 or code >= 2 * len(_AC3_KBIT_S):
        return None
    kbit_s = _AC3_KBIT_S[code >> 1]
    return {0: 4 * kbit_s, 1: 2 * (320 * kbit_s // 147 + (code & 1)), 2: 6 * kbit_s}[rate]
