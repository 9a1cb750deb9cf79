"""Ogg: no length in front. Each page has the position that its audio ends at, the last one a mark.

Positions need not begin at 0: what was recorded from a broadcast, or cut out of one, goes on from
its hour. A decoder says where the first page that it can read begins. That is the beginning if this
page follows the headers at once; if something else lies between them, audio was lost there.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Final, NamedTuple

from sssl.audio.containers.reading import Length, Stream, backwards, peek, size_of

_MAGIC: Final = b"OggS"
_MAX_PAGE_BYTES: Final = 27 + 255 + 255 * 255
# Flags of a page.
_FIRST = 2
_LAST = 4
_MOST_HEADER_PAGES: Final = 4096
# A page seldom holds more, so its audio began later than at 0.
_LATE_S: Final = 5.0


class _Page(NamedTuple):
    """What the header of a page says, and where the page ends."""

    flags: int
    position: int
    serial: bytes
    stop: int


def ogg_stop(file: BinaryIO) -> int | None:
    """Return the end of the last page; None if that page is not whole, or there is none."""
    page = _last_page(file)
    if page and page.stop <= size_of(file):
        return page.stop
    return None


def ogg_length(file: BinaryIO, head: bytes, stream: Stream) -> Length:
    """The position on the last page, if that is whole, marked as the last and of the only chain."""
    last = _last_page(file)
    first = _page_at(file, 0)
    if not last or last.stop > size_of(file) or not last.flags & _LAST:
        return Length(None, False)
    clock_hz = 48_000 if b"OpusHead" in head[:64] else stream.rate_hz
    second = _page_at(file, first.stop) if first else None
    # With video beside it, or another chain behind it, the last page is not of this stream.
    only = first and last.serial == first.serial and not (second and second.flags & _FIRST)
    if not first or not only or last.position <= 0 or not clock_hz:
        return Length(None, True)
    return Length(last.position / clock_hz - _start_s(file, first, stream, clock_hz), True)


def _start_s(file: BinaryIO, first: _Page, stream: Stream, clock_hz: int) -> float:
    """Return where the audio begins; 0 unless a page follows the headers at once and says
    otherwise.

    Where the decoder does not know it (FLAC), the end of that first page has to do.
    """
    page: _Page | None = first
    for _ in range(_MOST_HEADER_PAGES):
        if page is None or page.position > 0:
            break
        page = _page_at(file, page.stop)
    ends_s = page.position / clock_hz if page else 0.0
    if 0 < stream.start_s <= ends_s:
        return stream.start_s
    if ends_s > _LATE_S:
        return ends_s
    return 0.0


def _page_at(file: BinaryIO, at: int) -> _Page | None:
    header = peek(file, at, 27 + 255)
    if len(header) < 27 or header[:4] != _MAGIC or len(header) < 27 + header[26]:
        return None
    content = at + 27 + header[26]
    (position,) = struct.unpack_from("<q", header, 6)
    return _Page(header[5], position, header[14:18], content + sum(header[27 : 27 + header[26]]))


def _last_page(file: BinaryIO) -> _Page | None:
    """Search for the last page from the end on: there may be padding behind it."""
    behind = b""
    for start, block in backwards(file, size_of(file), _MAX_PAGE_BYTES):
        at = (block + behind[: len(_MAGIC) - 1]).rfind(_MAGIC)
        if at >= 0:
            return _page_at(file, start + at)
        behind = block
    return None
