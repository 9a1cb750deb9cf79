"""What is known of an audio file: what it declares, and what decoding found. Loads no decoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class AudioInfo:
    """What a file says of itself, and what decoding it found; from `decoded_s` on fields change
    while blocks are read.

    `declared_s` and `ended` are there to notice that audio is missing. What containers can tell:

    - wav, aiff, caf, au, dsf, flac, m4a, Matroska, wma, WavPack, tta: their headers declare a
      length that survives a cut. None if the writer could not go back to fill it in (a pipe). What
      they say of bytes decides before what they say of seconds: `ended` is False if these should go
      on beyond the end of the file. An m4a cut before its index can't be opened at all.
    - mp3: the number of frames in the Xing, Info or VBRI header. None without one: all else is an
      estimate by size. Cut anywhere but between two frames, its last frame is not whole: `ended` is
      False. So are mp2, raw AAC, ac3.
    - ogg (Vorbis, Opus): no length in front; the last page has the position and a mark that it is
      the last. Without the mark the file was cut (or recorded from a stream): `ended` is False and
      `declared_s` None. Files of several chains declare nothing; their mark is that of the last
      chain.
    - ape: nothing.

    sssl/audio/containers/ has the evidence one by one.

    Encoder delay and padding make `declared_s` differ from `decoded_s` by up to 0.1 s in whole
    files.
    """

    decoder: str
    codec: str | None
    sample_rate_hz: int
    channels: int
    declared_s: float | None
    ended: (
        bool | None
    )  # the end was found: of the last frame, box or segment, or an ogg's mark; None: can't tell
    decoded_s: float = 0.0
    damaged_packets: int = 0
    limited: bool = False  # more than `max_s` was there
    clipped_share: float = 0.0  # of samples of the downmix at or beyond full scale
    dc_offset: float = 0.0  # mean of the downmix, 1.0 is full scale
