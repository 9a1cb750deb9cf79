"""Waveform to log-mel: one segment at a time, in training as in scoring, because a segment's own
mel and a slice of its track's differ by tens of dB in the edge frames."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from sssl.audio.mel import MelConfig
from sssl.audio.spectra import Spectra

_FLOOR = 1e-10  # -100 dB: below 16-bit quantisation noise spread over the mel bands


@cache
def _transforms(
    config: MelConfig,
) -> tuple[torchaudio.transforms.Spectrogram, torchaudio.transforms.MelScale]:
    bins = config.fft // 2 + 1
    # torchaudio's defaults (htk mel scale, no norm) differ from librosa's by up to 17 dB; the
    # slaney ones agree.
    mel_scale = torchaudio.transforms.MelScale(
        config.mels, config.rate_hz, n_stft=bins, norm="slaney", mel_scale="slaney"
    )
    return _spectrogram(config.fft, config.frame_hop), mel_scale


@cache
def _spectrogram(fft: int, hop: int) -> torchaudio.transforms.Spectrogram:
    return torchaudio.transforms.Spectrogram(
        n_fft=fft, hop_length=hop, power=None, pad_mode="constant"
    )


@torch.inference_mode()
def log_mel(segments: NDArray[np.float32], config: MelConfig) -> NDArray[np.float16]:
    """Return log-mel power spectrograms [N, mels, frames] in dB of mono segments [N, T], |sample|
    <= 1."""
    return log_mel_and_spectra(segments, config)[0]


@torch.inference_mode()
def log_mel_and_spectra(
    segments: NDArray[np.float32], config: MelConfig
) -> tuple[NDArray[np.float16], Spectra]:
    """Return log-mels [N, mels, frames] in dB of segments [N, T], and the spectra that they were
    made of."""
    spectrogram, mel_scale = _transforms(config)
    wave = torch.from_numpy(np.ascontiguousarray(segments))
    power = _power(spectrogram(wave))
    mel_power = mel_scale(power)
    level = 10.0 * mel_power.clamp(min=_FLOOR).log10()
    log_mels = level.to(torch.float16).numpy()
    of_bins = _frames_first(power)
    of_mels = _frames_first(mel_power)
    spectra = Spectra(config, wave.numpy(), of_bins, of_mels)
    return np.asarray(log_mels), spectra


@torch.inference_mode()
def long_power(spectra: Spectra) -> NDArray[np.float32]:
    """Return the power [N, frames, bins] by the window that tells pitches apart."""
    config = spectra.config
    wave = torch.from_numpy(spectra.wave)
    transform = _spectrogram(config.long_fft, config.long_hop)
    spectrum = transform(wave)
    looked_at = spectrum[:, : config.long_bins]
    return _frames_first(_power(looked_at))


def _power(spectrum: torch.Tensor) -> torch.Tensor:
    # torchaudio's own power takes the root of this, to square it again: half as dear as the FFT.
    return spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)


def _frames_first(values: torch.Tensor) -> NDArray[np.float32]:
    transposed = values.transpose(1, 2)
    return np.ascontiguousarray(transposed.numpy())


def level_db(segments: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the RMS level [N] in dB re full scale of segments [N, T]; -100 dB for digital
    silence."""
    samples = segments.shape[-1]
    energy = np.einsum("...t,...t->...", segments, segments)
    mean_square = energy.astype(np.float64) / samples
    level = 10.0 * np.log10(np.maximum(mean_square, _FLOOR))
    return level.astype(np.float32)
