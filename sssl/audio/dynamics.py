"""Loudness and how it moves. Only the level depends on the gain."""

from __future__ import annotations

import numpy as np

from sssl.audio.spectra import (
    TINY,
    Floats,
    Measure,
    Measured,
    Spectra,
    ratio,
    relative,
)

_FLOOR_DB = -60.0  # below the loudest frame: the pause between two tones, however deep
# As in EBU Tech 3342: a fade-out and a single blow are not the range of the music.
_RANGE_PERCENTILES = (10, 95)

MEASURES = (
    Measure(
        "level",
        "dB re full scale",
        "RMS level of the segment; -100 at the lowest.",
        "librosa.feature.rms",
    ),
    Measure(
        "range",
        "dB",
        "Distance between the 10th and the 95th percentile of the frames' levels, without"
        " weighting by frequency.",
        "EBU Tech 3342 (loudness range)",
    ),
    Measure(
        "std", "dB", "Standard deviation of the frames' levels.", "Panda, Malheiro and Paiva 2020"
    ),
    Measure(
        "step",
        "dB",
        "Mean absolute step from one frame's level to the next.",
        "Panda, Malheiro and Paiva 2020",
    ),
    Measure(
        "crest",
        "dB",
        "Level of the highest sample above the RMS level.",
        "ITU-R BS.1770 (true peak aside)",
    ),
    Measure(
        "frame_crest",
        "dB",
        "Level of a frame's highest sample above the frame's RMS level, averaged over the frames.",
        "the same, by frame",
    ),
    Measure(
        "low_energy",
        "share of frames",
        "Frames whose RMS is below the mean RMS of the segment's frames.",
        "Tzanetakis and Cook 2002; MIRtoolbox mirlowenergy",
    ),
    Measure(
        "attack",
        "dB",
        "Largest rise of the level from one frame to the next.",
        "MIRtoolbox mirattackslope",
    ),
    Measure(
        "rise",
        "dB",
        "Root mean square of the level's rises from one frame to the next.",
        "MIRtoolbox mirattackslope",
    ),
    Measure(
        "fall",
        "dB",
        "Root mean square of the level's falls from one frame to the next.",
        "MIRtoolbox mirdecayslope",
    ),
)


def dynamics(spectra: Spectra) -> Measured:
    """Measure the dynamics of segments, each measure as [N]. Frames do not overlap here."""
    frames = _frames(spectra.wave, spectra.config.frame_hop)
    samples = frames.shape[2]
    energy = np.einsum("ntf,ntf->nt", frames, frames)
    power = energy / samples  # [N, frames]
    peak = np.abs(frames).max(axis=2)
    rest = spectra.wave[:, frames.shape[1] * samples :]
    peak_of_rest = np.abs(rest).max(axis=1, initial=0)
    highest = np.maximum(peak.max(axis=1), peak_of_rest)
    measures = _overall(highest, power)
    measures |= _by_frame(peak, power)
    measures |= _movement(power)
    return measures


def _overall(highest: Floats, power: Floats) -> Measured:
    """Measure segments as a whole, by their highest sample [N] and the power [N, frames] of their
    frames."""
    mean = power.mean(axis=1)
    level = 10 * np.log10(np.maximum(mean, TINY))
    rms = np.sqrt(mean)
    crest = _decibels(ratio(highest, rms))
    return {"level": level, "crest": crest}


def _by_frame(peak: Floats, power: Floats) -> Measured:
    """Measure frames one by one, by their highest sample and their power, each [N, frames]."""
    rms = np.sqrt(power)
    crest = _decibels(ratio(peak, rms))
    mean_rms = rms.mean(axis=1, keepdims=True)
    is_low = rms < mean_rms
    return {"frame_crest": crest.mean(axis=1), "low_energy": is_low.mean(axis=1)}


def _movement(power: Floats) -> Measured:
    """Measure how the level of frames moves, by their power [N, frames]."""
    floor = 10 ** (_FLOOR_DB / 10)
    level = 10 * np.log10(np.maximum(relative(power), floor))
    low, high = np.percentile(level, _RANGE_PERCENTILES, axis=1)
    # The first frame has a step of 0, so that a segment of a single frame has one, too.
    first = level[:, :1]
    steps = np.diff(level, axis=1, prepend=first)
    rises = np.maximum(steps, 0)
    falls = np.minimum(steps, 0)
    measures = {"range": high - low, "std": level.std(axis=1)}
    measures["step"] = np.abs(steps).mean(axis=1)
    measures["attack"] = rises.max(axis=1)
    measures["rise"] = _root_mean_square(rises)
    measures["fall"] = _root_mean_square(falls)
    return measures


def _frames(wave: Floats, length: int) -> Floats:
    """Cut waves [N, T] into frames [N, frames, length]; what is left at the end is dropped."""
    segments, samples = wave.shape
    length = min(length, samples)
    frames = samples // length
    whole = wave[:, : frames * length]
    return whole.reshape(segments, frames, length)


def _root_mean_square(values: Floats) -> Floats:
    """Return the root mean square [N] of values [N, frames]."""
    mean_square = (values**2).mean(axis=1)
    return np.sqrt(mean_square)


def _decibels(crest: Floats) -> Floats:
    """Return a crest factor in dB; 0 for silence."""
    at_least_one = np.maximum(crest, 1)
    return 20 * np.log10(at_least_one)
