"""Waveform to log-mel: one segment at a time, in training as in scoring, because a segment's own mel and a slice of its
track's differ by tens of dB in the edge frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from sssl.config import require

_FLOOR = 1e-10  # -100 dB: below 16-bit quantisation noise spread over the mel bands


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
    def start_distance_s(self) -> float:
        return self.segment_s if self.hop_s is None else self.hop_s

    @property
    def hop_samples(self) -> int:
        return round(self.start_distance_s * self.rate_hz)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape [mels, frames] of a segment: frames are centred, so 1 + floor(samples / frame_hop)."""
        return self.mels, 1 + self.segment_samples // self.frame_hop


@cache
def _transforms(config: MelConfig) -> tuple[torchaudio.transforms.Spectrogram, torchaudio.transforms.MelScale]:
    bins = config.fft // 2 + 1
    # torchaudio's defaults (htk mel scale, no norm) differ from librosa's by up to 17 dB; the slaney ones agree.
    mel_scale = torchaudio.transforms.MelScale(
        config.mels, config.rate_hz, n_stft=bins, norm="slaney", mel_scale="slaney"
    )
    spectrogram = torchaudio.transforms.Spectrogram(
        n_fft=config.fft, hop_length=config.frame_hop, power=None, pad_mode="constant"
    )
    return spectrogram, mel_scale


@torch.inference_mode()
def log_mel(segments: NDArray[np.float32], config: MelConfig) -> NDArray[np.float16]:
    """Return log-mel power spectrograms [N, mels, frames] in dB of mono segments [N, T], |sample| <= 1."""
    spectrogram, mel_scale = _transforms(config)
    spectrum = spectrogram(torch.from_numpy(np.ascontiguousarray(segments)))  # [N, bins, frames], complex
    # torchaudio's own power takes the root of this, to square it again: half as dear as the FFT.
    power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    return np.asarray((10.0 * mel_scale(power).clamp(min=_FLOOR).log10()).to(torch.float16).numpy())


def level_db(segments: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the RMS level [N] in dB re full scale of segments [N, T]; -100 dB for digital silence."""
    mean_square = np.einsum("...t,...t->...", segments, segments).astype(np.float64) / segments.shape[-1]
    return (10.0 * np.log10(np.maximum(mean_square, _FLOOR))).astype(np.float32)
