"""How many sounds there are and how they are played: harmonic or percussive, the predominant pitch,
its vibrato."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from sssl.audio.mel import MelConfig
from sssl.audio.spectra import STATISTICS, TINY, Floats, Measure, Spectra, over_frames, ratio

_NEIGHBOURS = 4  # on each side, of a median over nine
_CLEAR_DB = 3.0
_NEPERS_A_DB = np.float32(np.log(10) / 10)
_THIRDS = ("low", "mid", "high")
_LOWEST_HZ, _OCTAVES, _STEPS_AN_OCTAVE = 82.41, 4, 48  # from E2 up, quarter tones halved
_PARTIALS, _FALL = 8, 0.84
_HIGHEST_PARTIAL_HZ = 4000.0
_CENTS = 1200 / _STEPS_AN_OCTAVE
_LAYER_RATIO = 0.5
_STEADY_CENTS = 100.0  # a larger step from frame to frame is another note
_STRETCH_S = 0.5
_VIBRATO_HZ = (3.5, 9.0)
_CLEAR_VIBRATO_CENTS, _CLEAR_VIBRATO_SHARE = 10.0, 0.6
_WIDEST_CENTS = 200.0

MEASURES = (
    Measure(
        "harmonic_share",
        "share of energy",
        "Energy of what is smooth in time by Wiener masks from two medians, over nine frames and"
        " over nine mel bands, each a median of medians of three.",
        "librosa.decompose.hpss; FitzGerald 2010",
    ),
    Measure(
        "harmonic",
        "share of cells",
        "Mel cells by third of the bands that are clearly (3 dB) harmonic.",
        "FitzGerald 2010",
        _THIRDS,
    ),
    Measure(
        "percussive",
        "share of cells",
        "Mel cells by third of the bands that are clearly (3 dB) percussive.",
        "FitzGerald 2010",
        _THIRDS,
    ),
    Measure(
        "pitch",
        "octaves above E2",
        "Predominant pitch by frame: highest weighted sum of the compressed magnitudes at eight"
        " partials.",
        "librosa.salience; Salamon and Gomez 2012 (Melodia)",
        (),
        STATISTICS,
    ),
    Measure(
        "pitch_salience",
        "ratio",
        "Salience of the predominant pitch over the sum of the compressed spectrum.",
        "Salamon and Gomez 2012",
        (),
        STATISTICS,
    ),
    Measure(
        "pitch_steady",
        "share of frames",
        "Steps of the predominant pitch of less than a semitone.",
        "Panda, Malheiro and Paiva 2020",
    ),
    Measure(
        "glide",
        "cents",
        "Mean absolute step of the predominant pitch, of steps of less than a semitone.",
        "Panda, Malheiro and Paiva 2020 (glissando)",
    ),
    Measure(
        "vibrato",
        "share of stretches",
        "Half seconds in which the predominant pitch is steady and swings by 10 cents or more,"
        " mostly at 3.5 to 9 Hz.",
        "Panda, Malheiro and Paiva 2020; Essentia Vibrato",
    ),
    Measure(
        "vibrato_extent",
        "cents",
        "Amplitude of that swing at 3.5 to 9 Hz, mean over steady half seconds.",
        "Panda, Malheiro and Paiva 2020",
    ),
    Measure(
        "tremolo",
        "dB",
        "Amplitude of the swing of the predominant pitch's salience at 3.5 to 9 Hz, mean over half"
        " seconds.",
        "Panda, Malheiro and Paiva 2020",
    ),
    Measure(
        "layers",
        "count",
        "Pitches whose salience is a local maximum of at least half the highest.",
        "Panda, Malheiro and Paiva 2020 (musical layers)",
        (),
        STATISTICS[:2],
    ),
)


def texture(spectra: Spectra) -> dict[str, Floats]:
    """Measure texture and expression of segments, each measure as [N] or [N, K]."""
    return _harmonic_and_percussive(spectra.mel_db) | _pitch(spectra)


def _harmonic_and_percussive(mel_db: Floats) -> dict[str, Floats]:
    excess_db = _median_of_nine(mel_db, axis=1) - _median_of_nine(mel_db, axis=2)
    power = np.exp(_NEPERS_A_DB * mel_db)  # faster than 10 ** (mel_db / 10)
    mask = 1 / (1 + np.exp(-_NEPERS_A_DB * excess_db))
    return {
        "harmonic_share": ratio((power * mask).sum(axis=(1, 2)), power.sum(axis=(1, 2))),
        "harmonic": _shares_by_third(excess_db > _CLEAR_DB),
        "percussive": _shares_by_third(excess_db < -_CLEAR_DB),
    }


def _shares_by_third(cells: NDArray[np.bool_]) -> Floats:
    """Return the share of cells [N, frames, bands] that are true by third of the bands [N, 3]; 0 of
    no bands."""
    by_band = cells.mean(axis=1, dtype=np.float32)
    thirds = np.array_split(by_band, len(_THIRDS), axis=1)
    return np.stack([third.sum(axis=1) / max(1, third.shape[1]) for third in thirds], axis=1)


def _median_of_nine(values: Floats, axis: int) -> Floats:
    """Return the median of three medians of three neighbours along an axis; beyond its ends the
    last value goes on."""
    places = np.clip(
        np.arange(-_NEIGHBOURS, values.shape[axis] + _NEIGHBOURS), 0, values.shape[axis] - 1
    )
    padded = np.moveaxis(values.take(places, axis=axis), axis, 0)
    threes = _median_of_three(padded[:-2], padded[1:-1], padded[2:])
    return np.moveaxis(_median_of_three(threes[:-6], threes[3:-3], threes[6:]), 0, axis)


def _median_of_three(a: Floats, b: Floats, c: Floats) -> Floats:
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


def _pitch(spectra: Spectra) -> dict[str, Floats]:
    weights = _partial_weights(spectra.config)
    compressed = np.sqrt(spectra.magnitude[:, :, : len(weights)])
    salience = compressed @ weights  # [N, frames, pitches]
    place = salience.argmax(axis=2)
    highest = np.take_along_axis(salience, place[:, :, None], axis=2)[:, :, 0]
    pitch = place + _between(salience, place)  # in steps
    steps = np.abs(np.diff(pitch, axis=1)) * _CENTS
    steady = steps < _STEADY_CENTS
    values = np.stack(
        [
            pitch / _STEPS_AN_OCTAVE,
            ratio(highest, compressed.sum(axis=2)),
            _layers(salience, highest),
        ],
        axis=2,
    )
    by_frame = over_frames(values.astype(np.float32))
    return {
        "pitch": by_frame[:, :3],
        "pitch_salience": by_frame[:, 3:6],
        "layers": by_frame[:, 6:8],
        "pitch_steady": steady.sum(axis=1, dtype=np.float32) / max(1, steady.shape[1]),
        "glide": ratio((steps * steady).sum(axis=1), steady.sum(axis=1).astype(np.float32)),
    } | _expression(pitch * _CENTS, steady, highest, spectra.frame_s)


@cache
def _partial_weights(config: MelConfig) -> Floats:
    """Return how much the magnitude of a bin counts for a pitch [bins, pitches]: partials that fall
    between two bins are of both, and each weighs less than the one below it."""
    pitches = _LOWEST_HZ * 2 ** (np.arange(_OCTAVES * _STEPS_AN_OCTAVE) / _STEPS_AN_OCTAVE)
    highest = min(_HIGHEST_PARTIAL_HZ, config.rate_hz / 2)
    bins = int(highest * config.fft / config.rate_hz) + 1
    weights = np.zeros((bins + 1, len(pitches)))
    for partial in range(1, _PARTIALS + 1):
        exact = pitches * partial * config.fft / config.rate_hz
        column = np.flatnonzero(exact < bins)
        lower = exact[column].astype(np.int64)
        weight = _FALL ** (partial - 1)
        np.add.at(weights, (lower, column), weight * (1 - (exact[column] - lower)))
        np.add.at(weights, (lower + 1, column), weight * (exact[column] - lower))
    return np.ascontiguousarray(weights[:bins], dtype=np.float32)


def _between(salience: Floats, place: NDArray[np.int64]) -> Floats:
    """Return how far the summit of a parabola through a maximum and its neighbours lies from it, in
    steps."""
    inner = np.clip(place, 1, salience.shape[2] - 2)[:, :, None]
    before, at, after = (
        np.take_along_axis(salience, inner + k, axis=2)[:, :, 0] for k in (-1, 0, 1)
    )
    curve = 2 * at - before - after
    offset = np.clip(0.5 * ratio(after - before, np.maximum(curve, 0)), -0.5, 0.5)
    return np.where(place == inner[:, :, 0], offset, 0)


def _layers(salience: Floats, highest: Floats) -> Floats:
    """Count the pitches [N, frames] that stand out."""
    inner = salience[:, :, 1:-1]
    strong = inner > np.maximum(_LAYER_RATIO * highest, TINY)[:, :, None]
    peaks = (inner > salience[:, :, :-2]) & (inner >= salience[:, :, 2:]) & strong
    return peaks.sum(axis=2).astype(np.float32)


def _expression(
    cents: Floats, steady: NDArray[np.bool_], highest: Floats, frame_s: float
) -> dict[str, Floats]:
    """Return what the predominant pitch [N, frames] in cents, and its salience, do within half
    seconds."""
    length = round(_STRETCH_S / frame_s)
    segments, frames = cents.shape
    if length < 4 or frames < length:
        return dict.fromkeys(
            ("vibrato", "vibrato_extent", "tremolo"), np.zeros(segments, np.float32)
        )
    hop = length // 4
    held = np.lib.stride_tricks.sliding_window_view(steady, length - 1, axis=1)[:, ::hop].all(
        axis=2
    )
    extent, share = _swing(_stretches(cents, length, hop), frame_s)
    level = 20 * np.log10(highest + 1e-3)
    tremolo, _ = _swing(_stretches(level, length, hop), frame_s)
    clear = held & (share > _CLEAR_VIBRATO_SHARE) & (extent > _CLEAR_VIBRATO_CENTS)
    extents = (np.minimum(extent, _WIDEST_CENTS) * held).sum(axis=1)
    return {
        "vibrato": clear.mean(axis=1),
        "vibrato_extent": ratio(extents, held.sum(axis=1).astype(np.float32)),
        "tremolo": tremolo.mean(axis=1),
    }


def _stretches(values: Floats, length: int, hop: int) -> Floats:
    return np.lib.stride_tricks.sliding_window_view(values, length, axis=1)[:, ::hop]


def _swing(stretches: Floats, frame_s: float) -> tuple[Floats, Floats]:
    """Return the amplitude [N, K] of values [N, K, length] around their trend at the rates of a
    vibrato, and its share of the power of all their movement."""
    length = stretches.shape[2]
    window = np.hanning(length)
    moves = stretches @ _without_trend(length) * window
    power = np.abs(np.fft.rfft(moves, axis=2)) ** 2
    rate = np.fft.rfftfreq(length, frame_s)
    inside = power[:, :, (_VIBRATO_HZ[0] <= rate) & (rate <= _VIBRATO_HZ[1])].sum(axis=2)
    # By Parseval, a sinusoid of amplitude a leaves a^2 / 4 of the window's energy in the bins
    # around its rate.
    amplitude = 2 * np.sqrt(inside / (length * (window**2).sum()))
    return amplitude, ratio(inside, power.sum(axis=2))


@cache
def _without_trend(length: int) -> Floats:
    """Return the projection [length, length] that takes mean and slope away."""
    trend = np.stack([np.ones(length), np.arange(length) - (length - 1) / 2])
    trend /= np.linalg.norm(trend, axis=1, keepdims=True)
    return (np.eye(length) - trend.T @ trend).astype(np.float32)
