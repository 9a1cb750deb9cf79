"""How audio becomes log-mel segments: what decides their numbers. Apart from features.py, to load
without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas import Feature, arrow_schema
from schemas.records import dump, later
from sssl.config import require
from sssl.store.tensors import tensor_column, tensor_metadata, tensor_type

StoredAs = Literal["uint8", "float16"]
"""How values of log-mels are stored: as bytes of steps, or as half-precision dB."""
_TENSORS: dict[StoredAs, str] = {"uint8": "uint8", "float16": "<f2"}
"""Their types as NumPy names them; half precision is little-endian."""
STEP_DB = 9 / 16
FLOOR_DB = -100.0
"""In bytes a log-mel has steps of `STEP_DB` from `FLOOR_DB` on, up to 43.4 dB. Both, and all they
make, are exact in single precision."""

_TONES_BELOW_HZ = 4000


@dataclass(frozen=True)
class MelConfig:
    """How a segment becomes a log-mel spectrogram."""

    rate_hz: int = 16_000
    """Sample rate that all audio is resampled to, in Hz."""
    fft: int = 1024
    """Length of the Hann window and of the FFT, in samples."""
    frame_hop: int = 512
    """Distance of spectrogram frames, in samples."""
    mels: int = 64
    """Mel bands between 0 Hz and half the sample rate."""
    segment_s: float = 3.0
    """Length of a segment, in seconds."""
    hop_s: float | None = None
    """Distance of segment starts, in seconds; default: the segment's length. Shorter ones
    overlap."""
    stored_as: StoredAs = later("uint8", neutral="float16")
    """What a value of a log-mel is stored as: uint8, a byte of steps of 9/16 dB from -100 dB on, or
    float16, as by earlier versions, in twice the space. A folder keeps what it was begun with
    until its cut changes."""

    def __post_init__(self) -> None:
        require(self.rate_hz > 0, "rate_hz", self.rate_hz, "above 0")
        require(self.segment_s > 0, "segment_s", self.segment_s, "more than 0 s")
        require(self.start_distance_s > 0, "hop_s", self.hop_s, "more than 0 s")
        require(
            0 < self.frame_hop <= self.fft, "frame_hop", self.frame_hop, f"1 to {self.fft} (fft)"
        )
        require(self.mels > 0, "mels", self.mels, "1 or more")

    @property
    def segment_samples(self) -> int:
        return round(self.segment_s * self.rate_hz)

    @property
    def long_fft(self) -> int:
        """Length of the window that pitches are told apart with, in samples."""
        return 4 * self.fft

    @property
    def long_bins(self) -> int:
        """Bins of those windows that are looked at: above 4 kHz there are overtones alone."""
        return min(self.long_fft // 2, int(_TONES_BELOW_HZ * self.long_fft / self.rate_hz)) + 1

    @property
    def long_hop(self) -> int:
        """Distance of those windows, in samples."""
        return 4 * self.frame_hop

    @property
    def start_distance_s(self) -> float:
        if self.hop_s is None:
            return self.segment_s
        return self.hop_s

    @property
    def hop_samples(self) -> int:
        return round(self.start_distance_s * self.rate_hz)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape [mels, frames] of a segment: frames are centred, so 1 + floor(samples /
        frame_hop)."""
        return self.mels, 1 + self.segment_samples // self.frame_hop

    @property
    def log_mel_bytes(self) -> int:
        """Size of a segment's log-mel as it is stored."""
        mels, frames = self.shape
        return mels * frames * np.dtype(self.stored_as).itemsize

    def is_alike(self, other: MelConfig) -> bool:
        """Whether another cut makes the same log-mels, however they are stored."""
        return replace(self, stored_as=other.stored_as) == other


def in_steps(log_mel: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Return log-mels in dB as bytes: the nearest step of each, the first or the last where it is
    beyond them."""
    steps = (log_mel.astype(np.float32) - FLOOR_DB) / STEP_DB
    return np.rint(steps).clip(0, 255).astype(np.uint8)


def as_stored(log_mel: NDArray[np.float16], config: MelConfig) -> NDArray[Any]:
    """Return log-mels in dB as the cut stores them."""
    if config.stored_as == "uint8":
        return in_steps(log_mel)
    return log_mel


def in_db(log_mel: NDArray[Any]) -> NDArray[np.float32]:
    """Return log-mels as they are stored, bytes of steps or half-precision dB, in dB."""
    values = log_mel.astype(np.float32)
    if log_mel.dtype == np.uint8:
        return FLOOR_DB + STEP_DB * values
    return values


def features_of(
    track_id: pa.ChunkedArray | NDArray[np.str_],
    segment_index: pa.ChunkedArray | NDArray[np.int32],
    log_mel: NDArray[Any],
    config: MelConfig,
) -> pa.Table:
    """Make a table of stored log-mels [N, mels, frames]; how they came about travels with them, so
    that a reader can make the same ones from a waveform, and what levels its bytes stand for."""
    dtype = _TENSORS[config.stored_as]
    schema = arrow_schema(Feature, log_mel=tensor_type(dtype, config.shape))
    scale = {"scale": STEP_DB, "offset": FLOOR_DB} if config.stored_as == "uint8" else {}
    about = tensor_metadata("log_mel", dtype, config.shape, **scale, mel=dump(config))
    columns = {
        "track_id": track_id,
        "segment_index": segment_index,
        "log_mel": tensor_column(log_mel),
    }
    return pa.table(columns, schema=schema.with_metadata({**schema.metadata, **about}))
