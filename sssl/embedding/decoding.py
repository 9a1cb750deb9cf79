"""A track decoded once more, at the sample rate of its front-end, for processes of their own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from schemas import Catalog
from sssl.audio.cut import CutTrack, cut_track, opened_audio, why_unusable
from sssl.audio.decode import Decoder
from sssl.audio.integrity import GateConfig
from sssl.audio.mel import MelConfig
from sssl.embedding.network import Samples


@dataclass(frozen=True)
class Wave:
    """The samples of a track in a file, as a long mix at 48 kHz is larger than a process may get;
    or why there are none: a code of `schemas.reasons.REASONS`."""

    path: str = ""
    reason: str | None = None
    detail: str | None = None

    @contextmanager
    def samples(self) -> Iterator[Samples]:
        """Give the samples [T] until the block ends, which deletes their file."""
        try:
            empty = not os.path.getsize(self.path)  # which cannot be mapped
            yield np.empty(0, np.float32) if empty else np.memmap(self.path, np.float32, mode="r")
        finally:
            os.unlink(self.path)


def decode_wave(track: Catalog, rate_hz: int, max_s: float, folder: str) -> Wave:
    """Decode a track to a file of single-precision samples in a folder. Whatever is wrong with the
    track becomes a reason, never an exception."""
    number, path = tempfile.mkstemp(suffix=".f32", dir=folder)
    try:
        with os.fdopen(number, "wb") as file, opened_audio(track.uri) as source:
            for block in Decoder(source, rate_hz, max_s=max_s).blocks():
                file.write(np.ascontiguousarray(block).data)
    except Exception as error:  # noqa: BLE001
        # What decoders raise has no end; one track must not stop the others.
        os.unlink(path)
        return Wave("", *why_unusable(error))
    return Wave(path)


@dataclass
class CutWithWave(CutTrack):
    """A track that was cut, and its samples for the front-end, if there are segments."""

    wave: Wave | None = None


def cut_with_wave(
    track: Catalog, mel: MelConfig, gate: GateConfig, sound: int | None, rate_hz: int, folder: str
) -> CutWithWave:
    """Cut a track as `cut_track` does, and decode it for its front-end as `decode_wave` does."""
    cut = cut_track(track, mel, gate, sound)
    wave = decode_wave(track, rate_hz, gate.max_s, folder) if cut.segments is not None else None
    return CutWithWave(cut.ledger, cut.segments, wave)
