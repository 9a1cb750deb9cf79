"""Pitch classes, keys and consonance, from the spectra of the long window."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from sssl.audio.mel import MelConfig
from sssl.audio.spectra import (
    STATISTICS,
    TINY,
    Floats,
    Measure,
    bin_hz,
    mean_step,
    over_frames,
    ratio,
    relative,
)

_CLASSES = 12
_INTERVALS = range(1, 7)
# Shares of a corpus in which a pitch class occurs, from the tonic up. The ratings of Krumhansl and
# Kessler take a major triad for the minor one on its third.
_MAJOR = (0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400)
_MINOR = (0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330)
_CIRCLES = ((7 / 6, 1.0), (3 / 2, 1.0), (2 / 3, 0.5))  # half turns a semitone, and radius
_ROUGH_BELOW_HZ = 1500.0
_PARTIAL_RATIO = 0.03  # of the frame's strongest: 30 dB

MEASURES = (
    Measure(
        "key_clarity",
        "correlation",
        "Highest correlation of the mean chroma with the profiles of the 24 keys. The chroma is"
        " librosa's of what lies below 4 kHz, without an estimate of the tuning.",
        "librosa.feature.chroma_stft; Temperley 2007 (profiles); MIRtoolbox mirkey",
    ),
    Measure(
        "mode",
        "correlation",
        "Highest correlation with a major key less that with a minor key: above 0 for major, below"
        " for minor.",
        "MIRtoolbox mirmode (best); Temperley 2007 (profiles)",
    ),
    Measure(
        "chroma_entropy", "nat", "Entropy of the mean chroma.", "Essentia and MIRtoolbox mirentropy"
    ),
    Measure(
        "frame_entropy",
        "nat",
        "Entropy of the chroma by frame.",
        "MIRtoolbox mirentropy",
        (),
        STATISTICS[:2],
    ),
    Measure(
        "chroma_step",
        "share",
        "Mean absolute step of the chroma from a frame to the next.",
        "librosa.feature.chroma_stft",
    ),
    Measure(
        "tonal_change",
        "distance",
        "Distance of the tonal centroid from that of the next frame.",
        "librosa.feature.tonnetz; Harte, Sandler and Gasser 2006 (HCDF)",
        (),
        STATISTICS[:2],
    ),
    Measure(
        "circle",
        "radius",
        "How far the tonal centroid lies from the middle of the circle of fifths, minor thirds,"
        " major thirds.",
        "librosa.feature.tonnetz",
        ("fifths", "minor_thirds", "major_thirds"),
    ),
    Measure(
        "interval",
        "correlation",
        "Correlation of the mean chroma with itself so many semitones away: which intervals the"
        " harmony is made of.",
        "Tzanetakis, Ermolinskyi and Cook 2003 (pitch histograms), in every key alike",
        [str(k) for k in _INTERVALS],
    ),
    Measure(
        "roughness",
        "share",
        "Dissonance of all pairs of partials below 1.5 kHz by the curve of Plomp and Levelt, over"
        " the energy of the partials.",
        "Sethares 1993; MIRtoolbox mirroughness",
        (),
        STATISTICS,
    ),
    Measure(
        "partials",
        "count",
        "Local maxima of a frame's spectrum below 1.5 kHz that lie at most 30 dB below its"
        " strongest.",
        "Panda, Malheiro and Paiva 2020 (musical layers)",
        (),
        STATISTICS,
    ),
)


def tonality(long_power: Floats, config: MelConfig) -> dict[str, Floats]:
    """Measure the tonality of segments by their power spectra [N, frames, bins], each measure as
    [N] or [N, K]."""
    power = relative(long_power)
    raw = power @ _chroma_weights(config)
    chroma = ratio(raw, raw.max(axis=2, keepdims=True))  # [N, frames, 12]
    shares = ratio(chroma, chroma.sum(axis=2, keepdims=True))
    mean = chroma.mean(axis=1)
    centred = mean - mean.mean(axis=1, keepdims=True)
    centred = ratio(centred, np.linalg.norm(centred, axis=1, keepdims=True))
    keys = np.matmul(centred[:, None, :], _key_profiles().T)[:, 0]
    major, minor = keys[:, :_CLASSES].max(axis=1), keys[:, _CLASSES:].max(axis=1)
    centroid = shares @ _tonnetz_weights()
    by_circle = centroid.reshape(*centroid.shape[:2], len(_CIRCLES), 2)
    change = np.linalg.norm(np.diff(centroid, axis=1, append=centroid[:, -1:]), axis=2)
    low = int(_ROUGH_BELOW_HZ * config.long_fft / config.rate_hz)
    partials = _partials(np.sqrt(power[:, :, :low]))
    return {
        "key_clarity": np.maximum(major, minor),
        "mode": major - minor,
        "chroma_entropy": _entropy(ratio(mean, mean.sum(axis=1, keepdims=True))),
        "frame_entropy": over_frames(_entropy(shares))[:, :2],
        "chroma_step": mean_step(chroma).mean(axis=1),
        "tonal_change": over_frames(change)[:, :2],
        "circle": np.linalg.norm(by_circle, axis=3).mean(axis=1),
        "interval": (centred[:, None] * centred[:, _shifted()]).sum(axis=2),
        "roughness": over_frames(_roughness(partials, config)),
        "partials": over_frames((partials > 0).sum(axis=2).astype(np.float32)),
    }


@cache
def _chroma_weights(config: MelConfig) -> Floats:
    """Return what each bin [bins, 12] adds to the pitch classes from C up, as in
    `librosa.filters.chroma` at tuning 0: a Gaussian around each class, louder around the octave of
    A4 than far from it."""
    # Pitch of each bin of the full FFT, in semitones; the bin at 0 Hz lies an octave and a half
    # below the first.
    frequency = np.arange(1, config.long_fft) * config.rate_hz / config.long_fft
    pitch = _CLASSES * np.log2(frequency / (440 / 16))
    pitch = np.concatenate([[pitch[0] - 1.5 * _CLASSES], pitch])
    width = np.concatenate([np.maximum(np.diff(pitch), 1.0), [1.0]])
    distance = pitch[:, None] - np.arange(_CLASSES)
    distance = np.remainder(distance + 10.5 * _CLASSES, _CLASSES) - _CLASSES / 2
    weights = np.exp(-0.5 * (2 * distance / width[:, None]) ** 2)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    weights *= np.exp(-0.5 * ((pitch / _CLASSES - 5) / 2) ** 2)[:, None]
    from_a_to_c = np.roll(weights, -3, axis=1)
    return np.ascontiguousarray(from_a_to_c[: config.long_bins], dtype=np.float32)


@cache
def _shifted() -> NDArray[np.int64]:
    """Return the pitch class [6, 12] that lies each interval above each pitch class."""
    return (np.arange(_CLASSES) + np.array(_INTERVALS)[:, None]) % _CLASSES


@cache
def _key_profiles() -> Floats:
    """Return the profiles [24, 12] of the major keys from C up, then of the minor ones, each of
    norm 1 about 0."""
    profiles = []
    for profile in (np.array(_MAJOR), np.array(_MINOR)):
        centred = profile - profile.mean()
        profiles += [np.roll(centred / np.linalg.norm(centred), key) for key in range(_CLASSES)]
    return np.array(profiles, np.float32)


@cache
def _tonnetz_weights() -> Floats:
    """Return the coordinates [12, 6] of the pitch classes on the circles of fifths, minor and major
    thirds."""
    columns = []
    for steps, radius in _CIRCLES:
        angle = np.pi * steps * np.arange(_CLASSES)
        columns += [radius * np.sin(angle), radius * np.cos(angle)]
    return np.array(columns, np.float32).T


def _entropy(share: Floats) -> Floats:
    return -(share * np.log(share + TINY)).sum(axis=-1)


def _partials(magnitude: Floats) -> Floats:
    """Return magnitudes [N, frames, bins] with 0 wherever there is no local maximum of some
    strength."""
    found = np.zeros_like(magnitude)
    inner = magnitude[:, :, 1:-1]
    strong = inner > _PARTIAL_RATIO * magnitude.max(axis=2, keepdims=True)
    peaks = (inner > magnitude[:, :, :-2]) & (inner >= magnitude[:, :, 2:]) & strong
    found[:, :, 1:-1] = inner * peaks
    return found


def _roughness(partials: Floats, config: MelConfig) -> Floats:
    """Return the dissonance [N, frames] of all pairs of partials [N, frames, bins]."""
    energy = np.einsum("ntf,ntf->nt", partials, partials)
    pairs = np.einsum("ntf,ntf->nt", partials @ _dissonance(partials.shape[2], config), partials)
    return ratio(pairs, energy)


@cache
def _dissonance(bins: int, config: MelConfig) -> Floats:
    """Return the dissonance [bins, bins] of two pure tones by Sethares, which grows with their
    distance up to a quarter of the critical bandwidth and falls from there."""
    frequency = bin_hz(config.long_fft, config.rate_hz)[:bins].astype(np.float64)
    lower = np.minimum.outer(frequency, frequency)
    distance = np.abs(np.subtract.outer(frequency, frequency)) * 0.24 / (0.0207 * lower + 18.96)
    return (np.exp(-3.51 * distance) - np.exp(-5.75 * distance)).astype(np.float32)
