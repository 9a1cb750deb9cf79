"""The colour of sound: the shape of its spectrum, and how that shape moves."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np

from sssl.audio.mel import MelConfig
from sssl.audio.spectra import (
    STATISTICS,
    Doubles,
    Floats,
    Measure,
    Measured,
    Spectra,
    bin_hz,
    counted,
    over_frames,
    ratio,
    statistics,
)

_COEFFICIENTS = range(1, 20)  # the 0th is the level
_CONTRAST_BANDS = 7
_CONTRAST_FROM_HZ = 200.0
_CONTRAST_SHARE = 0.02  # as in librosa.feature.spectral_contrast, and so are the bands
_ROLL_OFF = 0.85  # as in librosa.feature.spectral_rolloff
_BLOCK = 16  # bins that are summed at once on the way to the roll-off
_LEAST = 1e-5  # of a magnitude: 100 dB below the loudest
_GROUPS = ("low", "lower_mid", "upper_mid", "high")
_MODULATION_HZ = (0.3, 1.0, 2.0, 4.0, 6.0, 10.0, 16.0)
_MODULATION_BANDS = len(_MODULATION_HZ) - 1
_LEAST_MODULATION = 1e-4  # keeps the logarithm of a level that does not move finite
_MODULATION_NAMES = [f"{group}_{band}" for group in _GROUPS for band in range(_MODULATION_BANDS)]
_COEFFICIENT_NAMES = [f"{k:02}" for k in _COEFFICIENTS]
_CONTRAST_NAMES = [str(band) for band in range(_CONTRAST_BANDS)]

MEASURES = (
    Measure(
        "mfcc",
        "dB",
        "Mel-frequency cepstral coefficient: orthonormal DCT-II of the mel levels. The 0th, which"
        " is the level, is left out.",
        "librosa.feature.mfcc; Davis and Mermelstein 1980",
        _COEFFICIENT_NAMES,
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
        "Logarithm of the ratio of the geometric to the arithmetic mean of the power: near 0 for"
        " white noise, below -4 for tones.",
        "librosa.feature.spectral_flatness; Johnston 1988",
        (),
        STATISTICS,
    ),
    Measure(
        "zero_crossings",
        "share of samples",
        "How often the waveform changes sign.",
        "librosa.feature.zero_crossing_rate",
        (),
        STATISTICS,
    ),
    Measure(
        "contrast",
        "dB",
        "Level of the strongest 2 % of bins (at least one) above that of the weakest 2 %, below 200"
        " Hz and in each octave from there, in every other frame. 0 in bands without a bin, such as"
        " those above half the sample rate.",
        "librosa.feature.spectral_contrast; Jiang et al. 2002",
        _CONTRAST_NAMES,
        ("mean",),
    ),
    Measure(
        "modulation",
        "log10 of dB²",
        "Modulation spectrum: how much the mean level, in dB, of a quarter of the mel bands (`low`,"
        " `lower_mid`, `upper_mid`, `high`) moves in each of six ranges of rates, which are bounded"
        " by 0.3 (`_0`), 1, 2, 4, 6, 10 and 16 Hz.",
        "Pampalk, Rauber and Merkl 2002 (fluctuation patterns); Lee et al. 2009",
        _MODULATION_NAMES,
    ),
)


def timbre(spectra: Spectra) -> Measured:
    """Measure the timbre of segments, each measure as [N, K]."""
    config = spectra.config
    measures = _shape(spectra)
    cepstrum = spectra.mel_db @ _cosines(config.mels)
    measures["mfcc"] = over_frames(cepstrum)
    crossings = _zero_crossings(spectra.wave, config.frame_hop)
    measures["zero_crossings"] = over_frames(crossings)
    # Only the mean is taken: frames side by side are enough.
    every_other = spectra.magnitude[:, ::2]
    measures["contrast"] = _contrast(every_other, config)
    measures["modulation"] = _modulation(spectra)
    return measures


def _shape(spectra: Spectra) -> Measured:
    """Measure the shape of each frame's spectrum."""
    magnitude = spectra.magnitude
    all_hz = bin_hz(spectra.config.fft, spectra.config.rate_hz)
    frequency = all_hz / np.float32(1000)
    ones = frequency**0
    powers = np.stack([ones, frequency, frequency**2], axis=1)
    # All three moments in one product, since it is reading the magnitudes that takes time.
    moments = magnitude @ powers
    total = moments[:, :, 0]
    centroid = ratio(moments[:, :, 1], total)
    mean_square = ratio(moments[:, :, 2], total)
    variance = np.maximum(mean_square - centroid**2, 0)  # rounding can make it negative
    spread = np.sqrt(variance)
    roll_off = _roll_off(magnitude, frequency)
    flatness = _flatness(magnitude)
    by_frame = {"centroid": centroid, "spread": spread}
    by_frame |= {"roll_off": roll_off, "flatness": flatness}
    return statistics(by_frame)


@cache
def _cosines(mels: int) -> Floats:
    """Return the orthonormal DCT-II [mels, coefficients]; coefficients that so few bands do not
    have are 0."""
    k = np.array(_COEFFICIENTS)
    band = np.arange(mels)
    middle = band[:, None] + 0.5
    angle = np.pi / mels * middle * k
    scale = np.sqrt(2 / mels)
    orthonormal = scale * np.cos(angle)
    cosines = np.where(k < mels, orthonormal, 0)
    return cosines.astype(np.float32)


def _roll_off(magnitude: Floats, frequency: Floats) -> Floats:
    """Return the frequency [N, frames] below which most of the magnitude lies: the block of bins in
    which the running sum gets there is found first, since a running sum over all bins is dear."""
    bins = magnitude.shape[2]
    starts = np.arange(0, bins, _BLOCK)
    blocks = np.add.reduceat(magnitude, starts, axis=2)
    sums = blocks.cumsum(axis=2)
    total = sums[:, :, -1:]
    wanted = _ROLL_OFF * total
    is_before = sums < wanted
    block = counted(is_before)[:, :, None]  # [N, frames, 1]
    nothing = np.zeros_like(total)
    sums_before = np.concatenate([nothing, sums], axis=2)
    before = np.take_along_axis(sums_before, block, axis=2)
    start = block * _BLOCK
    # The last block may be shorter: its last bin stands in for those it does not have.
    last = bins - 1
    inside = start + np.arange(_BLOCK)
    inside = np.minimum(inside, last)
    frame = np.arange(total.size)
    first = bins * frame.reshape(total.shape)
    of_block = magnitude.take(first + inside)
    running = before + of_block.cumsum(axis=2)
    is_below = running < wanted
    within = counted(is_below)
    place = np.minimum(start[:, :, 0] + within, last)
    return frequency[place]


def _flatness(magnitude: Floats) -> Floats:
    """Return the flatness [N, frames] in natural logarithms; magnitudes below -100 dB count as
    such."""
    bins = magnitude.shape[2]
    least = np.full(bins, _LEAST, np.float32)  # with a scalar it takes twice as long
    floored = np.maximum(magnitude, least)
    energy = np.vecdot(floored, floored)
    arithmetic = np.log(energy / bins)
    logarithms = np.log(floored, out=floored)
    # With a product of BLAS: in a third of the time that the mean takes.
    ones = np.ones(bins, np.float32)
    mean = np.vecdot(logarithms, ones) / bins
    geometric = 2 * mean  # of the power, the square of the magnitude
    return geometric - arithmetic


def _zero_crossings(wave: Floats, frame: int) -> Floats:
    """Return the share of samples [N, frames] with another sign than the one before, in frames that
    do not overlap."""
    negative = np.signbit(wave)
    before = negative[:, :-1]
    after = negative[:, 1:]
    changes = before != after
    segments, samples = changes.shape
    frame = min(frame, samples)
    frames = samples // frame
    whole = changes[:, : frames * frame]
    by_frame = whole.reshape(segments, frames, frame)
    packed = np.packbits(by_frame, axis=2)  # eight times less to add up
    bits = np.bitwise_count(packed)
    count = bits.sum(axis=2)
    return np.divide(count, frame, dtype=np.float32)


def _contrast(magnitude: Floats, config: MelConfig) -> Floats:
    """Return the mean contrast [N, bands] in dB."""
    octaves = _CONTRAST_FROM_HZ * 2.0 ** np.arange(_CONTRAST_BANDS - 1)
    edges = [0.0, *octaves, np.inf]
    frequency = bin_hz(config.fft, config.rate_hz)
    places = np.searchsorted(frequency, edges)
    # Where there is no bin, the strongest is as strong as the weakest.
    shape = (_CONTRAST_BANDS, *magnitude.shape[:2])
    strong = np.ones(shape, np.float32)
    weak = np.ones(shape, np.float32)
    for band, (start, stop) in enumerate(pairwise(places)):
        if start == stop:
            continue  # above half the sample rate, or between two bins
        bins = magnitude[:, :, start:stop]
        strong[band], weak[band] = _extremes(bins)
    strong = np.maximum(strong, _LEAST)
    weak = np.maximum(weak, _LEAST)
    level = np.log10(strong / weak)
    contrast = 20 * level.mean(axis=2)
    return contrast.T


def _extremes(magnitude: Floats) -> tuple[Floats, Floats]:
    """Return the mean [N, frames] of the strongest and of the weakest of some bins [N, frames,
    bins]."""
    bins = magnitude.shape[2]
    count = round(_CONTRAST_SHARE * bins)
    if count < 2:
        strongest = magnitude.max(axis=2)
        weakest = magnitude.min(axis=2)
        return strongest, weakest  # without sorting
    found = np.sort(magnitude, axis=2)
    strongest = found[:, :, -count:]
    weakest = found[:, :, :count]
    return strongest.mean(axis=2), weakest.mean(axis=2)


def _modulation(spectra: Spectra) -> Floats:
    """Return the logarithm of the modulation power [N, groups * bands]."""
    level = _level_by_group(spectra.mel_db)
    level -= level.mean(axis=2, keepdims=True)
    segments, _, frames = level.shape
    window, means = _modulation_weights(frames, spectra.frame_s)
    spectrum = np.fft.rfft(level * window, axis=2)
    power = np.abs(spectrum) ** 2 / frames
    bands = power @ means
    bands = bands.astype(np.float32)
    logarithm = np.log10(bands + _LEAST_MODULATION)
    return logarithm.reshape(segments, -1)


@cache
def _modulation_weights(frames: int, frame_s: float) -> tuple[Doubles, Doubles]:
    """Return the window [frames] of the modulation spectrum, and what takes the mean of its bins
    [bins, bands] in each range of rates."""
    frequency = np.fft.rfftfreq(frames, frame_s)
    means = np.zeros((len(frequency), _MODULATION_BANDS))
    for band, (low, high) in enumerate(pairwise(_MODULATION_HZ)):
        is_inside = (low <= frequency) & (frequency < high)
        # Short segments have no bin for slow rates: they do not move at them, as far as one sees.
        bins = max(1, is_inside.sum())
        means[is_inside, band] = 1 / bins
    return np.hanning(frames), means


def _level_by_group(mel_db: Floats) -> Floats:
    """Return the mean level [N, groups, frames] of neighbouring mel bands; 0 of no bands."""
    segments, frames, mels = mel_db.shape
    groups = np.array_split(np.arange(mels), len(_GROUPS))
    shape = (segments, len(groups), frames)
    levels = np.zeros(shape, np.float32)
    for row, group in enumerate(groups):
        if len(group):
            bands = mel_db[:, :, group]
            levels[:, row] = bands.mean(axis=2)
    return levels
