"""The colour of sound: the shape of its spectrum, and how that shape moves."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np

from sssl.audio.mel import MelConfig
from sssl.audio.spectra import STATISTICS, Floats, Measure, Spectra, bin_hz, over_frames, ratio

_COEFFICIENTS = range(1, 20)
_CONTRAST_BANDS = 7
_CONTRAST_FROM_HZ = 200.0
_CONTRAST_SHARE = 0.02
_ROLL_OFF = 0.85
_BLOCK = 16
_LEAST = 1e-5  # of a magnitude: 100 dB below the loudest
_GROUPS = ("low", "lower_mid", "upper_mid", "high")
_MODULATION_HZ = (0.3, 1.0, 2.0, 4.0, 6.0, 10.0, 16.0)

MEASURES = (
    Measure(
        "mfcc",
        "dB",
        "Mel-frequency cepstral coefficient: orthonormal DCT-II of the mel levels. The 0th, which"
        " is the level, is left out.",
        "librosa.feature.mfcc; Davis and Mermelstein 1980",
        [f"{k:02}" for k in _COEFFICIENTS],
        STATISTICS,
    ),
    Measure(
        "centroid",
        "kHz",
        "Mean frequency, weighted by magnitude.",
        "librosa.feature.spectral_centroid",
        (),
        STATISTICS,
    ),
    Measure(
        "spread",
        "kHz",
        "Standard deviation of frequency, weighted by magnitude.",
        "librosa.feature.spectral_bandwidth",
        (),
        STATISTICS,
    ),
    Measure(
        "roll_off",
        "kHz",
        "Frequency below which 85 % of the magnitude lies.",
        "librosa.feature.spectral_rolloff",
        (),
        STATISTICS,
    ),
    Measure(
        "flatness",
        "ln",
        "Logarithm of geometric by arithmetic mean of the power: 0 for white noise, below -4 for"
        " tones.",
        "librosa.feature.spectral_flatness; Johnston 1988",
        (),
        STATISTICS,
    ),
    Measure(
        "zero_crossings",
        "share of samples",
        "How often the waveform changes its sign.",
        "librosa.feature.zero_crossing_rate",
        (),
        STATISTICS,
    ),
    Measure(
        "contrast",
        "dB",
        "Level of the strongest 2 % of bins (at least one) over that of the weakest 2 %, below 200"
        " Hz and in the octaves from there, in every other frame. Bands that the sample rate does"
        " not have are 0.",
        "librosa.feature.spectral_contrast; Jiang et al. 2002",
        [str(k) for k in range(_CONTRAST_BANDS)],
        ("mean",),
    ),
    Measure(
        "modulation",
        "log10 of dB²",
        "Modulation spectrum: how much the mean level, in dB, of the `low`, `lower_mid`,"
        " `upper_mid` and `high` quarter of the mel bands moves at rates between 0.3 (`_0`), 1, 2,"
        " 4, 6, 10 and 16 Hz.",
        "Pampalk, Rauber and Merkl 2002 (fluctuation patterns); Lee et al. 2009",
        [f"{group}_{k}" for group in _GROUPS for k in range(len(_MODULATION_HZ) - 1)],
    ),
)


def timbre(spectra: Spectra) -> dict[str, Floats]:
    """Measure the timbre of segments, each measure as [N, K]."""
    frequency = bin_hz(spectra.config.fft, spectra.config.rate_hz) / np.float32(1000)
    magnitude = spectra.magnitude
    total, first, second = np.moveaxis(
        magnitude @ np.stack([frequency**0, frequency, frequency**2], axis=1), 2, 0
    )
    centroid = ratio(first, total)
    spread = np.sqrt(np.maximum(ratio(second, total) - centroid**2, 0))
    shape = np.stack(
        [centroid, spread, _roll_off(magnitude, frequency), _flatness(magnitude)], axis=2
    )
    by_shape = np.split(over_frames(shape), shape.shape[2], axis=1)
    return dict(zip(("centroid", "spread", "roll_off", "flatness"), by_shape, strict=True)) | {
        "mfcc": over_frames(spectra.mel_db @ _cosines(spectra.config.mels)),
        "zero_crossings": over_frames(_zero_crossings(spectra.wave, spectra.config.frame_hop)),
        "contrast": _contrast(
            magnitude[:, ::2], spectra.config
        ),  # only the mean: frames side by side are enough
        "modulation": _modulation(spectra),
    }


@cache
def _cosines(mels: int) -> Floats:
    """Return the orthonormal DCT-II [mels, coefficients]; coefficients that so few bands do not
    have are 0."""
    k, band = np.array(_COEFFICIENTS), np.arange(mels)
    cosines = np.sqrt(2 / mels) * np.cos(np.pi / mels * (band[:, None] + 0.5) * k)
    return np.where(k < mels, cosines, 0).astype(np.float32)


def _roll_off(magnitude: Floats, frequency: Floats) -> Floats:
    """Return the frequency [N, frames] below which most of the magnitude lies: the block of bins in
    which the running sum gets there is found first, since a running sum over all bins is dear."""
    bins = magnitude.shape[2]
    starts = np.arange(0, bins, _BLOCK)
    sums = np.add.reduceat(magnitude, starts, axis=2).cumsum(axis=2)
    wanted = _ROLL_OFF * sums[:, :, -1:]
    block = (sums < wanted).sum(axis=2, keepdims=True)
    before = np.take_along_axis(np.concatenate([0 * wanted, sums], axis=2), block, axis=2)
    inside = np.minimum(block * _BLOCK + np.arange(_BLOCK), bins - 1)
    running = before + np.take_along_axis(magnitude, inside, axis=2).cumsum(axis=2)
    place = block[:, :, 0] * _BLOCK + (running < wanted).sum(axis=2)
    return frequency[np.minimum(place, bins - 1)]


def _flatness(magnitude: Floats) -> Floats:
    """Return the flatness [N, frames] in natural logarithms; magnitudes below -100 dB count as
    such."""
    floored = np.maximum(magnitude, _LEAST)
    power = np.einsum("ntf,ntf->nt", floored, floored) / floored.shape[2]
    return 2 * np.log(floored).mean(axis=2) - np.log(power)


def _zero_crossings(wave: Floats, frame: int) -> Floats:
    """Return the share of samples [N, frames] with another sign than the one before, in frames that
    do not overlap."""
    negative = np.signbit(wave)
    changes = negative[:, 1:] != negative[:, :-1]
    frame = min(frame, changes.shape[1])
    frames = changes.shape[1] // frame
    return (
        changes[:, : frames * frame]
        .reshape(len(wave), frames, frame)
        .mean(axis=2, dtype=np.float32)
    )


def _contrast(magnitude: Floats, config: MelConfig) -> Floats:
    """Return the mean contrast [N, bands] in dB."""
    edges = [0.0] + [_CONTRAST_FROM_HZ * 2**k for k in range(_CONTRAST_BANDS - 1)] + [np.inf]
    places = np.searchsorted(bin_hz(config.fft, config.rate_hz), edges)
    contrast = np.zeros((len(magnitude), _CONTRAST_BANDS), np.float32)
    for band, (start, stop) in enumerate(pairwise(places)):
        if start < stop:
            strong, weak = _extremes(magnitude[:, :, start:stop])
            ratios = np.maximum(strong, _LEAST) / np.maximum(weak, _LEAST)
            contrast[:, band] = 20 * np.log10(ratios).mean(axis=1)
    return contrast


def _extremes(magnitude: Floats) -> tuple[Floats, Floats]:
    """Return the mean [N, frames] of the strongest and of the weakest of some bins [N, frames,
    bins]."""
    count = round(_CONTRAST_SHARE * magnitude.shape[2])
    if count < 2:
        return magnitude.max(axis=2), magnitude.min(axis=2)
    found = np.sort(magnitude, axis=2)
    return found[:, :, -count:].mean(axis=2), found[:, :, :count].mean(axis=2)


def _modulation(spectra: Spectra) -> Floats:
    """Return the logarithm of the modulation power [N, groups * bands]."""
    groups = np.array_split(np.arange(spectra.config.mels), len(_GROUPS))
    level = np.stack(
        [
            spectra.mel_db[:, :, g].mean(axis=2) if len(g) else 0 * spectra.mel_db[:, :, 0]
            for g in groups
        ],
        axis=1,
    )
    level -= level.mean(axis=2, keepdims=True)
    frames = level.shape[2]
    power = np.abs(np.fft.rfft(level * np.hanning(frames), axis=2)) ** 2 / frames
    frequency = np.fft.rfftfreq(frames, spectra.frame_s)
    bands = np.zeros((len(level), len(_GROUPS), len(_MODULATION_HZ) - 1), np.float32)
    for k, (low, high) in enumerate(pairwise(_MODULATION_HZ)):
        inside = (low <= frequency) & (frequency < high)
        if inside.any():
            bands[:, :, k] = power[:, :, inside].mean(axis=2)
    return np.log10(bands + 1e-4).reshape(len(level), -1)
