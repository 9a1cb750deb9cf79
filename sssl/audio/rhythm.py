"""When things begin: onsets, and the tempo at which they come back."""

from __future__ import annotations

from functools import cache

import numpy as np

from sssl.audio.spectra import TINY, Floats, Measure, Spectra, ratio

_SLOWEST_BPM, _OCTAVES, _BANDS, _TEMPI_A_BAND = 40.0, 3, 8, 8
_USUAL_BPM = 120.0
_FINER = 4  # times finer lags than the frames' distance

MEASURES = (
    Measure(
        "onset_mean",
        "dB",
        "Onset strength: mean over the mel bands of the level's rise from a frame to the next. Its"
        " mean.",
        "librosa.onset.onset_strength; Boeck and Widmer 2013",
    ),
    Measure("onset_std", "dB", "Standard deviation of the onset strength.", "as above"),
    Measure("onset_crest", "ratio", "Highest onset strength over the mean.", "as above"),
    Measure(
        "onset_rate",
        "1/s",
        "Local maxima of the onset strength that exceed its mean by half a standard deviation.",
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
        "Tempo whose lag has the highest autocorrelation of the onset strength, weighted by a"
        " log-normal prior around 120 BPM, one octave wide. Between 40 and 320 BPM.",
        "librosa.feature.tempo; Ellis 2007",
    ),
    Measure(
        "tempo_salience",
        "correlation",
        "Autocorrelation at the tempo.",
        "Lartillot et al. 2008 (pulse clarity)",
    ),
    Measure(
        "pulse_clarity",
        "correlation",
        "Highest autocorrelation at any tempo.",
        "Lartillot et al. 2008; MIRtoolbox mirpulseclarity",
    ),
    Measure(
        "regularity",
        "share",
        "How concentrated the autocorrelation is on few tempi: 1 less its entropy over that of an"
        " even one.",
        "MIRtoolbox mirpulseclarity (entropy of the autocorrelation)",
    ),
    Measure(
        "tempo_band",
        "correlation",
        "Highest autocorrelation within a band of tempi; eight bands, three eighths of an octave"
        " each, from 40 BPM up.",
        "librosa.feature.tempogram; Grosche, Mueller and Kurth 2010",
        [str(k) for k in range(_BANDS)],
    ),
)


def rhythm(spectra: Spectra) -> dict[str, Floats]:
    """Measure the rhythm of segments, each measure as [N] or [N, K]."""
    mels = spectra.config.mels
    rises = np.maximum(np.diff(spectra.mel_db, axis=1, prepend=spectra.mel_db[:, :1]), 0)
    strength = rises.mean(axis=2)
    mean, std = strength.mean(axis=1), strength.std(axis=1)
    at_tempo = _autocorrelation(strength, spectra.frame_s)
    bpm, prior = _tempi()
    best = (np.maximum(at_tempo, TINY) * prior).argmax(axis=1)
    return {
        "onset_mean": mean,
        "onset_std": std,
        "onset_crest": ratio(strength.max(axis=1), mean),
        "onset_rate": _peaks(strength, mean + std / 2) / (strength.shape[1] * spectra.frame_s),
        "onset_low": rises[:, :, : max(1, mels // 8)].mean(axis=(1, 2)),
        "onset_high": rises[:, :, mels // 2 :].mean(axis=(1, 2)),
        "tempo": np.log2(bpm / _USUAL_BPM)[best],
        "tempo_salience": np.take_along_axis(at_tempo, best[:, None], axis=1)[:, 0],
        "pulse_clarity": at_tempo.max(axis=1),
        "regularity": _concentration(np.maximum(at_tempo, 0)),
        "tempo_band": at_tempo.reshape(len(at_tempo), _BANDS, _TEMPI_A_BAND).max(axis=2),
    }


@cache
def _tempi() -> tuple[Floats, Floats]:
    """Return tempi [K] in BPM, evenly spaced in octaves, and how likely each is."""
    count = _BANDS * _TEMPI_A_BAND
    bpm = _SLOWEST_BPM * 2 ** (_OCTAVES * (np.arange(count) + 0.5) / count)
    prior = np.exp(-0.5 * np.log2(bpm / _USUAL_BPM) ** 2)
    return bpm.astype(np.float32), prior.astype(np.float32)


def _autocorrelation(strength: Floats, frame_s: float) -> Floats:
    """Return the autocorrelation [N, K] of onset strengths [N, frames] at the lag of each tempo, 1
    at lag 0.

    Lags between those of the frames come from a longer inverse transform, which interpolates
    without a band limit of its own. Segments too short for a lag have 0 there.
    """
    frames = strength.shape[1]
    centred = strength - strength.mean(axis=1, keepdims=True)
    size = 2 ** int(np.ceil(np.log2(2 * frames)))
    power = np.abs(np.fft.rfft(centred, size, axis=1)) ** 2
    correlation = np.fft.irfft(power, _FINER * size, axis=1)
    lag = 60 / _tempi()[0] / frame_s
    place = np.round(_FINER * np.minimum(lag, frames)).astype(np.int64)
    found = correlation[:, place] * (lag < frames)
    return ratio(found.astype(np.float32), correlation[:, :1].astype(np.float32))


def _peaks(strength: Floats, threshold: Floats) -> Floats:
    """Count the local maxima [N] above a threshold [N]."""
    inner = strength[:, 1:-1]
    peaks = (inner > strength[:, :-2]) & (inner >= strength[:, 2:]) & (inner > threshold[:, None])
    return peaks.sum(axis=1).astype(np.float32)


def _concentration(weight: Floats) -> Floats:
    """Return 1 less the relative entropy [N] of weights [N, K]; 0 where there is no weight."""
    total = weight.sum(axis=1, keepdims=True)
    share = ratio(weight, total)
    entropy = -(share * np.log(share + TINY)).sum(axis=1)
    return np.where(total[:, 0] > TINY, 1 - entropy / np.log(weight.shape[1]), 0)
