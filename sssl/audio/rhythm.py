"""When things begin: onsets, and the tempo at which they come back."""

from __future__ import annotations

from functools import cache

import numpy as np

from sssl.audio.spectra import (
    TINY,
    Flags,
    Floats,
    Measure,
    Measured,
    Places,
    Spectra,
    ratio,
)

_SLOWEST_BPM = 40.0
_OCTAVES = 3
_BANDS = 8
_BAND_NAMES = [str(band) for band in range(_BANDS)]
_TEMPI_PER_BAND = 8
_TEMPI = _BANDS * _TEMPI_PER_BAND
_USUAL_BPM = 120.0  # as in librosa.feature.tempo
# A frame is 32 ms by default: at 120 BPM a beat is 15.6 of them, too coarse to tell tempi apart.
_FINER = 4  # lags per frame

MEASURES = (
    Measure(
        "onset_mean",
        "dB",
        "Mean onset strength. The onset strength of a frame is the mean, over the mel bands, of the"
        " level's rise from the frame before.",
        "librosa.onset.onset_strength; Boeck and Widmer 2013",
    ),
    Measure("onset_std", "dB", "Standard deviation of the onset strength.", "as above"),
    Measure("onset_crest", "ratio", "Highest onset strength divided by the mean.", "as above"),
    Measure(
        "onset_rate",
        "1/s",
        "Rate of the local maxima of the onset strength that exceed its mean by half a standard"
        " deviation.",
        "MIRtoolbox mireventdensity, with a simple peak picker",
    ),
    Measure(
        "onset_low",
        "dB",
        "Mean onset strength of the lowest eighth of the mel bands.",
        "librosa.onset.onset_strength_multi",
    ),
    Measure(
        "onset_high",
        "dB",
        "Mean onset strength of the upper half of the mel bands.",
        "librosa.onset.onset_strength_multi",
    ),
    Measure(
        "tempo",
        "octaves re 120 BPM",
        "Tempo, between 40 and 320 BPM, at whose lag the autocorrelation of the onset strength is"
        " highest, weighted by a log-normal prior around 120 BPM that is one octave wide.",
        "librosa.feature.tempo; Ellis 2007",
    ),
    Measure(
        "tempo_salience",
        "correlation",
        "Autocorrelation of the onset strength at the tempo.",
        "Lartillot et al. 2008 (pulse clarity)",
    ),
    Measure(
        "pulse_clarity",
        "correlation",
        "Highest autocorrelation of the onset strength at any tempo.",
        "Lartillot et al. 2008; MIRtoolbox mirpulseclarity",
    ),
    Measure(
        "regularity",
        "share",
        "How concentrated the autocorrelation is on few tempi: 1 minus its entropy divided by that"
        " of a uniform one.",
        "MIRtoolbox mirpulseclarity (entropy of the autocorrelation)",
    ),
    Measure(
        "tempo_band",
        "correlation",
        "Highest autocorrelation within a band of tempi. There are eight bands, each three eighths"
        " of an octave wide, from 40 BPM up.",
        "librosa.feature.tempogram; Grosche, Mueller and Kurth 2010",
        _BAND_NAMES,
    ),
)


def rhythm(spectra: Spectra) -> Measured:
    """Measure the rhythm of segments, each measure as [N] or [N, K]."""
    level = spectra.mel_db
    # The first frame has a rise of 0, so that a segment of a single frame has one, too.
    first = level[:, :1]
    steps = np.diff(level, axis=1, prepend=first)
    rises = np.maximum(steps, 0)  # [N, frames, mels]
    strength = rises.mean(axis=2)
    measures = _onsets(strength, spectra.frame_s)
    measures |= _onsets_by_band(rises)
    measures |= _pulse(strength, spectra.frame_s)
    return measures


def _onsets(strength: Floats, frame_s: float) -> Measured:
    """Measure onset strengths [N, frames]."""
    mean = strength.mean(axis=1)
    std = strength.std(axis=1)
    highest = strength.max(axis=1)
    peaks = _peaks(strength, mean + std / 2)
    duration_s = strength.shape[1] * frame_s
    measures = {"onset_mean": mean, "onset_std": std}
    measures["onset_crest"] = ratio(highest, mean)
    measures["onset_rate"] = peaks / duration_s
    return measures


def _onsets_by_band(rises: Floats) -> Measured:
    """Measure onsets of the lowest and the highest of the mel bands, by rises [N, frames, mels]."""
    mels = rises.shape[2]
    eighth = max(1, mels // 8)
    half = mels // 2
    low = rises[:, :, :eighth].mean(axis=(1, 2))
    high = rises[:, :, half:].mean(axis=(1, 2))
    return {"onset_low": low, "onset_high": high}


def _pulse(strength: Floats, frame_s: float) -> Measured:
    """Measure at which tempo onset strengths [N, frames] come back."""
    at_tempo = _autocorrelation(strength, frame_s)  # [N, tempi]
    bpm, prior = _tempi()
    # Where no correlation is above 0, the tempo is the likeliest one.
    positive = np.maximum(at_tempo, TINY)
    likely = positive * prior
    best = likely.argmax(axis=1)
    octaves = np.log2(bpm / _USUAL_BPM)
    rows = np.arange(len(at_tempo))
    by_band = at_tempo.reshape(-1, _BANDS, _TEMPI_PER_BAND)
    measures: Measured = {}
    measures["tempo"] = octaves[best]
    measures["tempo_salience"] = at_tempo[rows, best]
    measures["pulse_clarity"] = at_tempo.max(axis=1)
    measures["regularity"] = _concentration(np.maximum(at_tempo, 0))
    measures["tempo_band"] = by_band.max(axis=2)
    return measures


@cache
def _tempi() -> tuple[Floats, Floats]:
    """Return tempi [K] in BPM, evenly spaced in octaves, and how likely each is."""
    number = np.arange(_TEMPI) + 0.5
    octaves = _OCTAVES * number / _TEMPI
    bpm = _SLOWEST_BPM * 2**octaves
    away = np.log2(bpm / _USUAL_BPM)  # a standard deviation of the prior is an octave
    prior = np.exp(-0.5 * away**2)
    return bpm.astype(np.float32), prior.astype(np.float32)


def _autocorrelation(strength: Floats, frame_s: float) -> Floats:
    """Return the autocorrelation [N, K] of onset strengths [N, frames] at the lag of each tempo, 1
    at lag 0.

    Lags between those of the frames come from a longer inverse transform, which interpolates
    without a band limit of its own. Segments too short for a lag have 0 there.
    """
    frames = strength.shape[1]
    mean = strength.mean(axis=1, keepdims=True)
    centred = strength - mean
    # Twice the frames at least, or the end of a segment would be correlated with its beginning.
    octaves = np.ceil(np.log2(2 * frames))
    size = 2 ** int(octaves)
    finer_size = _FINER * size
    spectrum = np.fft.rfft(centred, size, axis=1)
    power = np.abs(spectrum) ** 2
    exact = np.fft.irfft(power, finer_size, axis=1)
    correlation = exact.astype(np.float32)
    place, is_within = _lags(frames, frame_s)
    found = correlation[:, place] * is_within
    at_lag_0 = correlation[:, :1]
    return ratio(found, at_lag_0)


@cache
def _lags(frames: int, frame_s: float) -> tuple[Places, Flags]:
    """Return the lag [K] of each tempo, in quarters of a frame, and whether a segment of so many
    frames has it."""
    bpm, _ = _tempi()
    lag = 60 / bpm / frame_s  # in frames
    place = _FINER * np.minimum(lag, frames)
    return np.round(place).astype(np.int64), lag < frames


def _peaks(strength: Floats, threshold: Floats) -> Floats:
    """Count the local maxima [N] above a threshold [N]."""
    inner = strength[:, 1:-1]
    before = strength[:, :-2]
    after = strength[:, 2:]
    # `>` on one side and `>=` on the other count a plateau of two once.
    is_peak = inner > before
    is_peak &= inner >= after
    is_peak &= inner > threshold[:, None]
    return is_peak.sum(axis=1).astype(np.float32)


def _concentration(weight: Floats) -> Floats:
    """Return 1 less the relative entropy [N] of weights [N, K]; 0 where there is no weight."""
    total = weight.sum(axis=1, keepdims=True)
    share = ratio(weight, total)
    surprise = share * np.log(share + TINY)
    entropy = -surprise.sum(axis=1)
    most = np.log(weight.shape[1])
    concentration = 1 - entropy / most
    is_there = total[:, 0] > TINY
    return np.where(is_there, concentration, 0)
