"""Waveform to log-mel: one segment at a time, in training as in scoring, because a segment's own mel and a slice of its
track's differ by tens of dB in the edge frames."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from sssl.audio.mel import MelConfig

_FLOOR = 1e-10  # -100 dB: below 16-bit quantisation noise spread over the mel bands


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
