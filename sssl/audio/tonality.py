"""Pitch classes, keys and consonance, from the spectra of the long window."""

from __future__ import annotations

from functools import cache

import numpy as np

from sssl.audio.mel import MelConfig
from sssl.audio.spectra import (
    STATISTICS,
    TINY,
    Flags,
    Floats,
    Measure,
    Measured,
    Places,
    are_peaks,
    bin_hz,
    counted,
    mean_step,
    ratio,
    relative,
    statistics,
)

_CLASSES = 12
_INTERVALS = range(1, 7)
# Shares of a corpus in which a pitch class occurs, from the tonic up. The ratings of Krumhansl and
# Kessler take a major triad for the minor one on its third.
_MAJOR = (0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400)
_MINOR = (0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330)
_CIRCLES = ((7 / 6, 1.0), (3 / 2, 1.0), (2 / 3, 0.5))  # half turns per semitone, and radius
# As librosa.filters.chroma does: octaves are counted from A0, and the fifth is the loudest.
_A0_HZ = 440 / 16
_CENTRE_OCTAVE = 5
_OCTAVE_WIDTH = 2
_INTERVAL_NAMES = [str(semitones) for semitones in _INTERVALS]
_ROUGH_BELOW_HZ = 1500.0
_DISSONANCE_BLOCK = 96  # bins; the fewer, the fewer pairs are taken twice, but the more products
_PARTIAL_RATIO = 0.03  # of the frame's strongest: 30 dB

MEASURES = (
    Measure(
        "key_clarity",
        "correlation",
        "Highest correlation of the mean chroma with the profiles of the 24 keys. The chroma is as"
        " in librosa, of frequencies below 4 kHz and without an estimate of the tuning.",
        "librosa.feature.chroma_stft; Temperley 2007 (profiles); MIRtoolbox mirkey",
    ),
    Measure(
        "mode",
        "correlation",
        "Highest correlation with a major key minus the highest with a minor key: above 0 for"
        " major, below 0 for minor.",
        "MIRtoolbox mirmode (best); Temperley 2007 (profiles)",
    ),
    Measure(
        "chroma_entropy", "nat", "Entropy of the mean chroma.", "Essentia and MIRtoolbox mirentropy"
    ),
    Measure(
        "frame_entropy",
        "nat",
        "Entropy of the chroma of a frame.",
        "MIRtoolbox mirentropy",
        (),
        STATISTICS[:2],
    ),
    Measure(
        "chroma_step",
        "share",
        "Mean absolute step of the chroma from one frame to the next.",
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
        "Distance of the tonal centroid from the centre of the circle of fifths, of minor thirds,"
        " and of major thirds.",
        "librosa.feature.tonnetz",
        ("fifths", "minor_thirds", "major_thirds"),
    ),
    Measure(
        "interval",
        "correlation",
        "Correlation of the mean chroma with itself, shifted by so many semitones: which intervals"
        " the harmony is made of.",
        "Tzanetakis, Ermolinskyi and Cook 2003 (pitch histograms), in every key alike",
        _INTERVAL_NAMES,
    ),
    Measure(
        "roughness",
        "share",
        "Dissonance of all pairs of partials below 1.5 kHz, by the curve of Plomp and Levelt,"
        " divided by the energy of the partials.",
        "Sethares 1993; MIRtoolbox mirroughness",
        (),
        STATISTICS,
    ),
    Measure(
        "partials",
        "count",
        "Local maxima of a frame's spectrum below 1.5 kHz that lie at most 30 dB below the"
        " strongest.",
        "Panda, Malheiro and Paiva 2020 (musical layers)",
        (),
        STATISTICS,
    ),
)


def tonality(long_power: Floats, config: MelConfig) -> Measured:
    """Measure the tonality of segments by their power spectra [N, frames, bins], each measure as
    [N] or [N, K]."""
    power = relative(long_power)
    raw = power @ _chroma_weights(config)
    # Of each frame the strongest class is 1, as in librosa: soft chords count as much as loud ones.
    loudest = raw.max(axis=2, keepdims=True)
    chroma = ratio(raw, loudest)  # [N, frames, 12]
    shares = _shares(chroma)
    centroid = shares @ _tonnetz_weights()
    bins = int(_ROUGH_BELOW_HZ * config.long_fft / config.rate_hz)
    low_power = power[:, :, :bins]
    by_frame = _consonance(low_power, config)
    by_frame["frame_entropy"] = _entropy(shares)
    by_frame["tonal_change"] = _change(centroid)
    measures = statistics(by_frame)
    for name in ("frame_entropy", "tonal_change"):
        found = measures[name]
        measures[name] = found[:, :2]  # without the step
    measures |= _harmony(chroma.mean(axis=1))
    step = mean_step(chroma)
    measures["chroma_step"] = step.mean(axis=1)
    radius = _radius(centroid)
    measures["circle"] = radius.mean(axis=1)
    return measures


def _shares(values: Floats) -> Floats:
    """Divide values [..., 12] by their sum."""
    total = values.sum(axis=-1, keepdims=True)
    return ratio(values, total)


def _harmony(mean: Floats) -> Measured:
    """Measure which key and which intervals a mean chroma [N, 12] is made of."""
    centred = mean - mean.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    centred = ratio(centred, length)
    rows = centred[:, None]
    # One product per segment: a product of all rows at once would round otherwise by their number.
    keys = np.matmul(rows, _key_profiles().T)
    keys = keys[:, 0]  # [N, 24]
    major = keys[:, :_CLASSES].max(axis=1)
    minor = keys[:, _CLASSES:].max(axis=1)
    shifted = centred[:, _shifted()]  # [N, intervals, 12]
    products = rows * shifted
    measures = {"key_clarity": np.maximum(major, minor)}
    measures["mode"] = major - minor
    measures["chroma_entropy"] = _entropy(_shares(mean))
    measures["interval"] = products.sum(axis=2)
    return measures


def _radius(centroid: Floats) -> Floats:
    """Return how far tonal centroids [N, frames, 6] are from the centre of each circle [N, frames,
    3]."""
    segments, frames, _ = centroid.shape
    by_circle = centroid.reshape(segments, frames, len(_CIRCLES), 2)
    return np.linalg.norm(by_circle, axis=3)


def _change(centroid: Floats) -> Floats:
    """Return how far tonal centroids [N, frames, 6] are from the next ones [N, frames]; 0 for the
    last frame, so that a segment of a single frame has a change, too."""
    last = centroid[:, -1:]
    steps = np.diff(centroid, axis=1, append=last)
    return np.linalg.norm(steps, axis=2)


def _consonance(low_power: Floats, config: MelConfig) -> Measured:
    """Return how many partials power spectra [N, frames, bins] have, and how rough these are
    together, each as [N, frames]."""
    magnitude = np.sqrt(low_power)
    is_partial = _are_partials(magnitude)
    partials = magnitude * is_partial
    count = counted(is_partial)
    roughness = _roughness(partials, config)
    return {"roughness": roughness, "partials": count.astype(np.float32)}


@cache
def _chroma_weights(config: MelConfig) -> Floats:
    """Return what each bin [bins, 12] adds to the pitch classes from C up, as in
    `librosa.filters.chroma` at tuning 0: a Gaussian around each class, louder around the octave of
    A4 than far from it."""
    # Pitch of each bin of the full FFT, in semitones; the bin at 0 Hz lies an octave and a half
    # below the first.
    bins = np.arange(1, config.long_fft)
    frequency = bins * config.rate_hz / config.long_fft
    pitch = _CLASSES * np.log2(frequency / _A0_HZ)
    of_0_hz = pitch[0] - 1.5 * _CLASSES
    pitch = np.concatenate([[of_0_hz], pitch])
    # High bins lie closer together than classes do; a Gaussian is a semitone wide at least.
    distances = np.maximum(np.diff(pitch), 1.0)
    width = np.concatenate([distances, [1.0]])
    classes = np.arange(_CLASSES)
    distance = pitch[:, None] - classes
    # To the nearest octave of the class, in -6 to 6; ten octaves keep the dividend above 0.
    half_octave = _CLASSES / 2
    ten_octaves = 10 * _CLASSES
    distance = np.remainder(distance + half_octave + ten_octaves, _CLASSES)
    distance -= half_octave
    widths = 2 * distance / width[:, None]
    weights = np.exp(-0.5 * widths**2)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    octave = pitch / _CLASSES
    from_centre = (octave - _CENTRE_OCTAVE) / _OCTAVE_WIDTH
    loudness = np.exp(-0.5 * from_centre**2)
    weights *= loudness[:, None]
    from_a_to_c = np.roll(weights, -3, axis=1)
    looked_at = from_a_to_c[: config.long_bins]
    return np.ascontiguousarray(looked_at, dtype=np.float32)


@cache
def _shifted() -> Places:
    """Return the pitch class [6, 12] that lies each interval above each pitch class."""
    intervals = np.array(_INTERVALS)
    above = np.arange(_CLASSES) + intervals[:, None]
    return above % _CLASSES


@cache
def _key_profiles() -> Floats:
    """Return the profiles [24, 12] of the major keys from C up, then of the minor ones, each of
    norm 1 about 0."""
    profiles = []
    for profile in (np.array(_MAJOR), np.array(_MINOR)):
        centred = profile - profile.mean()
        of_c = centred / np.linalg.norm(centred)
        in_all_keys = [np.roll(of_c, key) for key in range(_CLASSES)]
        profiles.extend(in_all_keys)
    return np.array(profiles, np.float32)


@cache
def _tonnetz_weights() -> Floats:
    """Return the coordinates [12, 6] of the pitch classes on the circles of fifths, minor and major
    thirds."""
    columns = []
    for steps, radius in _CIRCLES:
        half_turns = steps * np.arange(_CLASSES)
        angle = np.pi * half_turns
        columns.append(radius * np.sin(angle))
        columns.append(radius * np.cos(angle))
    rows = np.array(columns, np.float32)
    return rows.T


def _entropy(share: Floats) -> Floats:
    surprise = share * np.log(share + TINY)
    return -surprise.sum(axis=-1)


def _are_partials(magnitude: Floats) -> Flags:
    """Tell which magnitudes [N, frames, bins] are local maxima of some strength."""
    strongest = magnitude.max(axis=2, keepdims=True)
    is_partial = are_peaks(magnitude)
    is_partial &= magnitude > _PARTIAL_RATIO * strongest
    return is_partial


def _roughness(partials: Floats, config: MelConfig) -> Floats:
    """Return the dissonance [N, frames] of all pairs of partials [N, frames, bins]."""
    bins = partials.shape[2]
    energy = np.vecdot(partials, partials)
    pairs = np.zeros_like(energy)
    for start, dissonance in _dissonance_by_block(bins, config):
        higher = partials[:, :, start:]
        of_block = higher[:, :, : len(dissonance)]
        with_higher = of_block @ dissonance
        pairs += np.vecdot(with_higher, higher)
    return ratio(pairs, energy)


@cache
def _dissonance_by_block(bins: int, config: MelConfig) -> list[tuple[int, Floats]]:
    """Return, for each block of bins, the first of them and the dissonance [block, bins from there]
    with each higher bin, twice: a pair counts in both orders, and is taken in one."""
    dissonance = _dissonance(bins, config)
    pairs = 2 * np.triu(dissonance)
    blocks = []
    for start in range(0, bins, _DISSONANCE_BLOCK):
        stop = start + _DISSONANCE_BLOCK
        of_block = np.ascontiguousarray(pairs[start:stop, start:])
        blocks.append((start, of_block))
    return blocks


def _dissonance(bins: int, config: MelConfig) -> Floats:
    """Return the dissonance [bins, bins] of two pure tones by Sethares, which grows with their
    distance up to a quarter of the critical bandwidth and falls from there."""
    all_bins_hz = bin_hz(config.long_fft, config.rate_hz)
    frequency = all_bins_hz[:bins].astype(np.float64)
    lower = np.minimum.outer(frequency, frequency)
    apart = np.subtract.outer(frequency, frequency)
    # His curve, with his numbers; 0.24 of the scale is where two tones are roughest.
    scale = 0.0207 * lower + 18.96
    distance = np.abs(apart) * 0.24 / scale
    rises = np.exp(-3.51 * distance)
    falls = np.exp(-5.75 * distance)
    return (rises - falls).astype(np.float32)
