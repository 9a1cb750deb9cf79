"""Loudness and how it moves. Only the level depends on the gain."""

from __future__ import annotations

import numpy as np

from sssl.audio.spectra import TINY, Floats, Measure, Spectra, ratio

_FLOOR_DB = -60.0  # below the loudest frame: the pause between two tones, however deep

MEASURES = (
    Measure(
        "level",
        "dB re full scale",
        "RMS level of the segment, at least -100.",
        "librosa.feature.rms",
    ),
    Measure(
        "range",
        "dB",
        "From the 10th to the 95th percentile of the frames' levels, without weighting by"
        " frequency.",
        "EBU Tech 3342 (loudness range)",
    ),
    Measure(
        "std", "dB", "Standard deviation of the frames' levels.", "Panda, Malheiro and Paiva 2020"
    ),
    Measure(
        "step",
        "dB",
        "Mean absolute step from a frame's level to the next.",
        "Panda, Malheiro and Paiva 2020",
    ),
    Measure("crest", "dB", "Highest sample over the RMS level.", "ITU-R BS.1770 (true peak aside)"),
    Measure(
        "frame_crest",
        "dB",
        "Highest sample of a frame over the frame's RMS, mean over the frames.",
        "the same, by frame",
    ),
    Measure(
        "low_energy",
        "share of frames",
        "Frames whose RMS lies below the mean of the segment's.",
        "Tzanetakis and Cook 2002; MIRtoolbox mirlowenergy",
    ),
    Measure(
        "attack",
        "dB",
        "Largest rise of the level from a frame to the next.",
        "MIRtoolbox mirattackslope",
    ),
    Measure(
        "rise",
        "dB",
        "Root mean square of the level's rises from frame to frame.",
        "MIRtoolbox mirattackslope",
    ),
    Measure(
        "fall",
        "dB",
        "Root mean square of the level's falls from frame to frame.",
        "MIRtoolbox mirdecayslope",
    ),
)


def dynamics(spectra: Spectra) -> dict[str, Floats]:
    """Measure the dynamics of segments, each measure as [N]. Frames do not overlap here."""
    frames = _frames(spectra.wave, spectra.config.frame_hop)
    power = np.einsum("ntf,ntf->nt", frames, frames) / frames.shape[2]
    mean = power.mean(axis=1)
    loudest = np.maximum(power.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    level = 10 * np.log10(np.maximum(power / loudest, 10 ** (_FLOOR_DB / 10)))
    steps = np.diff(level, axis=1, prepend=level[:, :1])
    rises, falls = np.maximum(steps, 0), np.minimum(steps, 0)
    rms, frame_peak = np.sqrt(power), np.abs(frames).max(axis=2)
    low, high = np.percentile(level, [10, 95], axis=1)
    return {
        "level": 10 * np.log10(np.maximum(mean, TINY)),
        "range": high - low,
        "std": level.std(axis=1),
        "step": np.abs(steps).mean(axis=1),
        "crest": _decibels(ratio(np.abs(spectra.wave).max(axis=1), np.sqrt(mean))),
        "frame_crest": _decibels(ratio(frame_peak, rms)).mean(axis=1),
        "low_energy": (rms < rms.mean(axis=1, keepdims=True)).mean(axis=1),
        "attack": rises.max(axis=1),
        "rise": np.sqrt((rises**2).mean(axis=1)),
        "fall": np.sqrt((falls**2).mean(axis=1)),
    }


def _frames(wave: Floats, length: int) -> Floats:
    """Cut waves [N, T] into frames [N, frames, length]; what is left at the end is dropped."""
    length = min(length, wave.shape[1])
    frames = wave.shape[1] // length
    return wave[:, : frames * length].reshape(len(wave), frames, length)


def _decibels(crest: Floats) -> Floats:
    """Return a crest factor in dB; 0 for silence."""
    return 20 * np.log10(np.maximum(crest, 1))
