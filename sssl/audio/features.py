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

_AT_ONCE = 2  # segments whose spectra are made at once: few enough to stay in the cache
_FLOOR = 1e-10  # -100 dB: below 16-bit quantisation noise spread over the mel bands


@cache
def _mel_scale(config: MelConfig) -> torchaudio.transforms.MelScale:
    bins = config.fft // 2 + 1
    # torchaudio's defaults (htk mel scale, no norm) differ from librosa's by up to 17 dB; the
    # slaney ones agree.
    return torchaudio.transforms.MelScale(
        config.mels, config.rate_hz, n_stft=bins, norm="slaney", mel_scale="slaney"
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
    wave = np.ascontiguousarray(segments)
    bins = config.fft // 2 + 1
    power = _power(wave, config.fft, config.frame_hop, bins)
    bins_first = torch.from_numpy(power).transpose(1, 2)
    mel_scale = _mel_scale(config)
    mel_power = mel_scale(bins_first)
    level = 10.0 * mel_power.clamp(min=_FLOOR).log10()
    log_mels = level.to(torch.float16).numpy()
    frames_first = mel_power.transpose(1, 2)
    of_mels = np.ascontiguousarray(frames_first.numpy())
    spectra = Spectra(config, wave, power, of_mels)
    return np.asarray(log_mels), spectra


@torch.inference_mode()
def long_power(spectra: Spectra) -> NDArray[np.float32]:
    """Return the power [N, frames, bins] by the window that tells pitches apart."""
    config = spectra.config
    return _power(spectra.wave, config.long_fft, config.long_hop, config.long_bins)


def _power(wave: NDArray[np.float32], fft: int, hop: int, bins: int) -> NDArray[np.float32]:
    """Return the lowest bins of the power spectra [N, frames, bins] of waves [N, T], by a Hann
    window on frames whose middles are `hop` apart from the first sample on, as torchaudio's
    Spectrogram has them."""
    segments, samples = wave.shape
    half = fft // 2
    padded = torch.zeros(_AT_ONCE, half + samples + half)
    inner = padded[:, half : half + samples]
    frames = padded.unfold(1, fft, hop)  # a view [_AT_ONCE, frames, fft]
    shape = (segments, frames.shape[1], bins)
    power = np.empty(shape, np.float32)
    window = torch.hann_window(fft)
    for start in range(0, segments, _AT_ONCE):
        some = wave[start : start + _AT_ONCE]
        count = len(some)
        inner[:count] = torch.from_numpy(some)
        windowed = frames[:count] * window
        spectrum = torch.fft.rfft(windowed)
        looked_at = spectrum[:, :, :bins]
        power[start : start + count] = _squared(looked_at)
    return power


def _squared(spectrum: torch.Tensor) -> NDArray[np.float32]:
    """Return the squared magnitudes of a spectrum."""
    # Real and imaginary parts lie side by side. NumPy takes them apart three times as fast as torch
    # does, which adds their squares with one rounding.
    numbers = spectrum.numpy()
    squares = np.square(numbers.real)
    imaginary = np.positive(numbers.imag)
    power = torch.from_numpy(squares)
    other = torch.from_numpy(imaginary)
    power.addcmul_(other, other)
    return squares


def level_db(segments: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the RMS level [N] in dB re full scale of segments [N, T]; -100 dB for digital
    silence."""
    samples = segments.shape[-1]
    energy = np.einsum("...t,...t->...", segments, segments)
    mean_square = energy.astype(np.float64) / samples
    level = 10.0 * np.log10(np.maximum(mean_square, _FLOOR))
    return level.astype(np.float32)
