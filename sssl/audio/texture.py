"""How many sounds there are and how they are played: harmonic or percussive, the predominant pitch,
its vibrato."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sssl.audio.mel import MelConfig
from sssl.audio.spectra import (
    STATISTICS,
    TINY,
    Doubles,
    Flags,
    Floats,
    Measure,
    Measured,
    Places,
    Spectra,
    are_peaks,
    counted,
    ratio,
    statistics,
)

_NEIGHBOURS = 4  # on each side, of a median over nine
_CLEAR_DB = 3.0
_NEPERS_PER_DB = np.float32(np.log(10) / 10)
_THIRDS = ("low", "mid", "high")
_LOWEST_HZ = 82.41  # E2, the lowest string of a guitar
_OCTAVES = 4
_STEPS_PER_OCTAVE = 48  # quarter tones halved
_PARTIALS = 8
_FALL = 0.84
_HIGHEST_PARTIAL_HZ = 4000.0
_CENTS = 1200 / _STEPS_PER_OCTAVE
_LAYER_RATIO = 0.5
_STEADY_CENTS = 100.0  # a larger step from frame to frame is another note
_STRETCH_S = 0.5
_VIBRATO_HZ = (3.5, 9.0)
_CLEAR_VIBRATO_CENTS = 10.0
_CLEAR_VIBRATO_SHARE = 0.6
_WIDEST_CENTS = 200.0
_LEAST_SALIENCE = 1e-3  # keeps the level of silence finite

MEASURES = (
    Measure(
        "harmonic_share",
        "share of energy",
        "Share of the energy that is smooth in time, by Wiener masks. These are made from two"
        " medians, over nine frames and over nine mel bands, each computed as a median of medians"
        " of three.",
        "librosa.decompose.hpss; FitzGerald 2010",
    ),
    Measure(
        "harmonic",
        "share of cells",
        "Mel cells that are clearly (by 3 dB) harmonic, in each third of the bands.",
        "FitzGerald 2010",
        _THIRDS,
    ),
    Measure(
        "percussive",
        "share of cells",
        "Mel cells that are clearly (by 3 dB) percussive, in each third of the bands.",
        "FitzGerald 2010",
        _THIRDS,
    ),
    Measure(
        "pitch",
        "octaves above E2",
        "Predominant pitch of a frame: the one with the highest salience, which is the weighted sum"
        " of the compressed magnitudes at eight partials.",
        "librosa.salience; Salamon and Gomez 2012 (Melodia)",
        (),
        STATISTICS,
    ),
    Measure(
        "pitch_salience",
        "ratio",
        "Salience of the predominant pitch divided by the sum of the compressed spectrum.",
        "Salamon and Gomez 2012",
        (),
        STATISTICS,
    ),
    Measure(
        "pitch_steady",
        "share of frames",
        "Steps of the predominant pitch, from one frame to the next, that are smaller than a"
        " semitone.",
        "Panda, Malheiro and Paiva 2020",
    ),
    Measure(
        "glide",
        "cents",
        "Mean absolute size of these steps.",
        "Panda, Malheiro and Paiva 2020 (glissando)",
    ),
    Measure(
        "vibrato",
        "share of stretches",
        "Half-second stretches in which the predominant pitch is steady and swings by 10 cents or"
        " more, mostly at 3.5 to 9 Hz.",
        "Panda, Malheiro and Paiva 2020; Essentia Vibrato",
    ),
    Measure(
        "vibrato_extent",
        "cents",
        "Amplitude of that swing at 3.5 to 9 Hz, averaged over the stretches with a steady pitch.",
        "Panda, Malheiro and Paiva 2020",
    ),
    Measure(
        "tremolo",
        "dB",
        "Amplitude of the swing, at 3.5 to 9 Hz, of the salience of the predominant pitch, averaged"
        " over all half-second stretches.",
        "Panda, Malheiro and Paiva 2020",
    ),
    Measure(
        "layers",
        "count",
        "Pitches whose salience is a local maximum and at least half of the highest.",
        "Panda, Malheiro and Paiva 2020 (musical layers)",
        (),
        STATISTICS[:2],
    ),
)


def texture(spectra: Spectra) -> Measured:
    """Measure texture and expression of segments, each measure as [N] or [N, K]."""
    measures = _harmonic_and_percussive(spectra.mel_db)
    measures |= _pitch(spectra)
    return measures


def _harmonic_and_percussive(mel_db: Floats) -> Measured:
    """Tell cells [N, frames, mels] that go on in time from those that go on over the bands."""
    harmonic_db = _median_of_nine(mel_db, axis=1)
    percussive_db = _median_of_nine(mel_db, axis=2)
    excess_db = harmonic_db - percussive_db
    power = np.exp(_NEPERS_PER_DB * mel_db)  # faster than 10 ** (mel_db / 10)
    # A Wiener mask, harmonic / (harmonic + percussive), of powers that are given in dB.
    percussive_ratio = np.exp(-_NEPERS_PER_DB * excess_db)
    mask = 1 / (1 + percussive_ratio)
    harmonic = power * mask
    harmonic_power = harmonic.sum(axis=(1, 2))
    all_power = power.sum(axis=(1, 2))
    is_harmonic = excess_db > _CLEAR_DB
    is_percussive = excess_db < -_CLEAR_DB
    measures = {"harmonic_share": ratio(harmonic_power, all_power)}
    cells = np.stack([is_harmonic, is_percussive])
    measures["harmonic"], measures["percussive"] = _shares_by_third(cells)
    return measures


def _shares_by_third(cells: Flags) -> Floats:
    """Return the share of cells [..., frames, bands] that are true by third of the bands [..., 3];
    0 of no bands."""
    by_band = cells.mean(axis=-2, dtype=np.float32)
    shares = []
    for third in np.array_split(by_band, len(_THIRDS), axis=-1):
        bands = max(1, third.shape[-1])
        total = third.sum(axis=-1)
        shares.append(total / bands)
    return np.stack(shares, axis=-1)


def _median_of_nine(values: Floats, axis: int) -> Floats:
    """Return the median of three medians of three neighbours along an axis; beyond its ends the
    last value goes on."""
    length = values.shape[axis]
    places = np.arange(-_NEIGHBOURS, length + _NEIGHBOURS)
    places = np.clip(places, 0, length - 1)
    padded = values.take(places, axis=axis)
    # As one long row, in which neighbours are some distance apart. Medians of values that are no
    # neighbours are only found for the padding, which is cut off again.
    row = padded.reshape(-1)
    distance = padded.strides[axis] // padded.itemsize
    threes = _median_at_distance(row, distance)
    nines = _median_at_distance(threes, 3 * distance)
    before = _NEIGHBOURS * distance
    row[before:-before] = nines
    along = padded.swapaxes(0, axis)
    inner = along[_NEIGHBOURS:-_NEIGHBOURS]
    return inner.swapaxes(0, axis)


def _median_at_distance(values: Floats, distance: int) -> Floats:
    """Return the medians [K - 2 * distance] of values [K] with their neighbours at a distance."""
    before = values[: -2 * distance]
    at = values[distance:-distance]
    after = values[2 * distance :]
    return _median_of_three(before, at, after)


def _median_of_three(a: Floats, b: Floats, c: Floats) -> Floats:
    lower = np.minimum(a, b)
    higher = np.maximum(a, b)
    np.minimum(higher, c, out=higher)
    return np.maximum(lower, higher, out=lower)


def _pitch(spectra: Spectra) -> Measured:
    """Measure the predominant pitch, how many others there are, and how it is played."""
    weights = _partial_weights(spectra.config)
    bins = len(weights)
    # The root lets weak partials count beside strong ones, as salience functions of melody do.
    compressed = np.sqrt(spectra.magnitude[:, :, :bins])
    salience = compressed @ weights  # [N, frames, pitches]
    place = salience.argmax(axis=2)
    highest = _taken(salience, place)  # [N, frames]
    pitch = place + _between(salience, place)  # in steps
    octaves = pitch / _STEPS_PER_OCTAVE
    all_bins = compressed.sum(axis=2)
    relative_salience = ratio(highest, all_bins)
    by_frame = {"pitch": octaves.astype(np.float32)}
    by_frame["pitch_salience"] = relative_salience
    by_frame["layers"] = _layers(salience, highest)
    steps = np.diff(pitch, axis=1)
    steps = np.abs(steps) * _CENTS
    steady = steps < _STEADY_CENTS
    measures = _held(steps, steady)
    measures |= statistics(by_frame)
    layers = measures["layers"]
    measures["layers"] = layers[:, :2]  # without the step
    measures |= _expression(pitch * _CENTS, steady, highest, spectra.frame_s)
    return measures


def _held(steps: Floats, steady: Flags) -> Measured:
    """Measure how much of the predominant pitch is held, and how far held tones glide."""
    count = steady.sum(axis=1, dtype=np.float32)
    held_steps = steps * steady
    glide = held_steps.sum(axis=1)
    all_steps = max(1, steady.shape[1])
    return {"pitch_steady": count / all_steps, "glide": ratio(glide, count)}


def _taken(values: Floats, place: Places) -> Floats:
    """Return the value of each frame [N, frames] at its place in values [N, frames, K]."""
    found = np.take_along_axis(values, place[:, :, None], axis=2)
    return found[:, :, 0]


@cache
def _partial_weights(config: MelConfig) -> Floats:
    """Return how much the magnitude of a bin counts for a pitch [bins, pitches]: partials that fall
    between two bins are of both, and each weighs less than the one below it."""
    steps = np.arange(_OCTAVES * _STEPS_PER_OCTAVE)
    pitches = _LOWEST_HZ * 2 ** (steps / _STEPS_PER_OCTAVE)
    nyquist_hz = config.rate_hz / 2
    highest = min(_HIGHEST_PARTIAL_HZ, nyquist_hz)
    bins = int(highest * config.fft / config.rate_hz) + 1
    # One bin more, which takes what falls above the highest and is then cut off.
    weights = np.zeros((bins + 1, len(pitches)))
    for partial in range(1, _PARTIALS + 1):
        partials_hz = pitches * partial
        exact = partials_hz * config.fft / config.rate_hz
        column = np.flatnonzero(exact < bins)
        exact = exact[column]
        lower = exact.astype(np.int64)
        upper = lower + 1
        of_upper = exact - lower
        of_lower = 1 - of_upper
        weight = _FALL ** (partial - 1)
        np.add.at(weights, (lower, column), weight * of_lower)
        np.add.at(weights, (upper, column), weight * of_upper)
    return np.ascontiguousarray(weights[:bins], dtype=np.float32)


def _between(salience: Floats, place: Places) -> Floats:
    """Return how far the summit of a parabola through a maximum and its neighbours lies from it, in
    steps."""
    inner = np.clip(place, 1, salience.shape[2] - 2)
    before = _taken(salience, inner - 1)
    at = _taken(salience, inner)
    after = _taken(salience, inner + 1)
    curve = 2 * at - before - after
    curve = np.maximum(curve, 0)
    offset = 0.5 * ratio(after - before, curve)
    offset = np.clip(offset, -0.5, 0.5)
    # The lowest and the highest pitch have no neighbour on one side.
    return np.where(place == inner, offset, 0)


def _layers(salience: Floats, highest: Floats) -> Floats:
    """Count the pitches [N, frames] that stand out."""
    least = np.maximum(_LAYER_RATIO * highest, TINY)
    is_layer = are_peaks(salience)
    is_layer &= salience > least[:, :, None]
    return counted(is_layer).astype(np.float32)


def _expression(cents: Floats, steady: Flags, highest: Floats, frame_s: float) -> Measured:
    """Return what the predominant pitch [N, frames] in cents, and its salience, do within half
    seconds."""
    length = round(_STRETCH_S / frame_s)
    segments, frames = cents.shape
    if length < 4 or frames < length:
        # Too few frames, or too far apart, to see a swing of several hertz in them.
        nothing = np.zeros(segments, np.float32)
        return dict.fromkeys(("vibrato", "vibrato_extent", "tremolo"), nothing)
    hop = length // 4
    # Between `length` frames there is one step less.
    held = _stretches(steady, length - 1, hop).all(axis=2)
    level = 20 * np.log10(highest + _LEAST_SALIENCE)
    swings = _stretches(np.stack([cents, level]), length, hop)
    (extent, tremolo), (share, _) = _swing(swings, frame_s)
    is_clear = held & (share > _CLEAR_VIBRATO_SHARE)
    is_clear &= extent > _CLEAR_VIBRATO_CENTS
    extent = np.minimum(extent, _WIDEST_CENTS) * held
    extents = extent.sum(axis=1)
    count = held.sum(axis=1).astype(np.float32)
    measures = {"vibrato": is_clear.mean(axis=1)}
    measures["vibrato_extent"] = ratio(extents, count)
    measures["tremolo"] = tremolo.mean(axis=1)
    return measures


def _stretches(values: NDArray[Any], length: int, hop: int) -> NDArray[Any]:
    """Return the stretches [..., K, length] of values [..., frames], one every `hop` frames."""
    last = values.shape[-1] - length
    starts = np.arange(0, last + 1, hop)
    places = starts[:, None] + np.arange(length)
    return values[..., places]


def _swing(stretches: Doubles, frame_s: float) -> tuple[Floats, Floats]:
    """Return the amplitude [..., K] of values [..., K, length] around their trend at the rates of a
    vibrato, and its share of the power of all their movement."""
    length = stretches.shape[-1]
    waves, is_vibrato = _waves(length, frame_s)
    # A rate's power is the sum of two squares, of its cosine and of its sine.
    spectrum = stretches @ waves
    power = spectrum**2
    inside = power @ is_vibrato
    # By Parseval, a sinusoid of amplitude a leaves a^2 / 4 of the window's energy in the bins
    # around its rate.
    window = np.hanning(length)
    window_energy = length * (window**2).sum()
    amplitude = 2 * np.sqrt(inside / window_energy)
    all_moves = power.sum(axis=-1)
    return amplitude, ratio(inside, all_moves)


@cache
def _waves(length: int, frame_s: float) -> tuple[Doubles, Doubles]:
    """Return what takes the trend from values and makes a windowed spectrum [length, 2 * rates] of
    the rest, cosines first, and which of these rates are those of a vibrato, as 0 or 1."""
    windowed = _without_trend(length) * np.hanning(length)
    spectrum = np.fft.rfft(windowed, axis=1)
    rate_hz = np.fft.rfftfreq(length, frame_s)
    slowest_hz, fastest_hz = _VIBRATO_HZ
    is_vibrato = (slowest_hz <= rate_hz) & (rate_hz <= fastest_hz)
    waves = np.concatenate([spectrum.real, spectrum.imag], axis=1)
    of_vibrato = np.tile(is_vibrato, 2)
    return waves, of_vibrato.astype(np.float64)


def _without_trend(length: int) -> Floats:
    """Return the projection [length, length] that takes mean and slope away."""
    mean = np.ones(length)
    slope = np.arange(length) - (length - 1) / 2
    trend = np.stack([mean, slope])  # orthogonal, since the slope is about its middle
    trend /= np.linalg.norm(trend, axis=1, keepdims=True)
    without = np.eye(length) - trend.T @ trend
    return without.astype(np.float32)
