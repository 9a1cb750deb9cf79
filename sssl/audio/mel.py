"""How audio becomes log-mel segments: what decides their numbers. Apart from features.py, to load without torch."""

from __future__ import annotations

from dataclasses import dataclass

from sssl.config import require


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
    """Distance of segment starts, in seconds; default: the segment's length. Shorter ones overlap."""

    def __post_init__(self) -> None:
        require(self.segment_s > 0, "segment_s", self.segment_s, "more than 0 s")
        require(self.start_distance_s > 0, "hop_s", self.hop_s, "more than 0 s")
        require(0 < self.frame_hop <= self.fft, "frame_hop", self.frame_hop, f"1 to {self.fft} (--fft)")
        require(self.mels > 0, "mels", self.mels, "1 or more")

    @property
    def segment_samples(self) -> int:
        return round(self.segment_s * self.rate_hz)

    @property
    def long_fft(self) -> int:
        """Length of the window that pitches are told apart with, in samples."""
        return 4 * self.fft

    @property
    def long_hop(self) -> int:
        """Distance of those windows, in samples."""
        return 4 * self.frame_hop

    @property
    def start_distance_s(self) -> float:
        return self.segment_s if self.hop_s is None else self.hop_s

    @property
    def hop_samples(self) -> int:
        return round(self.start_distance_s * self.rate_hz)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape [mels, frames] of a segment: frames are centred, so 1 + floor(samples / frame_hop)."""
        return self.mels, 1 + self.segment_samples // self.frame_hop
