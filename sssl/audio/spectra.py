"""What the descriptions of sound share: the spectra of a batch of segments, and statistics over
frames.

Arrays are float32 with frames before bins. Matrix products are of one segment at a time
(`numpy.matmul` of stacks), so that a segment's numbers do not depend on how many others are
described with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sssl.audio.mel import MelConfig

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]
Measured = dict[str, Floats]  # by the name of the measure: [N], or [N, K] of several numbers

DYNAMIC_RANGE_DB = 80.0
"""How far below the loudest point of its segment a level may lie, as in librosa's `power_to_db`:
what is described then does not depend on the gain."""
TINY = 1e-10
STATISTICS = ("mean", "std", "step")
"""Of a value by frame: mean, standard deviation, and mean absolute step from a frame to the
next."""


class Measure(NamedTuple):
    """Something that is measured of a segment, as one number or several.

    `of` names what it is measured of (bands, coefficients), `statistics` what is taken of its
    frames.
    """

    name: str
    unit: str
    doc: str
    source: str
    of: Sequence[str] = ()
    statistics: Sequence[str] = ()

    def names(self, family: str) -> list[str]:
        """Name the numbers, in their order: `timbre.mfcc_01.mean`."""
        stems = [f"{family}.{self.name}_{one}" for one in self.of] or [f"{family}.{self.name}"]
        if self.statistics:
            return [f"{stem}.{statistic}" for stem in stems for statistic in self.statistics]
        return stems


@dataclass(frozen=True)
class Spectra:
    """A batch of segments [N, T], their power spectra [N, frames, bins] and the power of their mel
    bands [N, frames, mels]: what the log-mel is made of."""

    config: MelConfig
    wave: Floats
    power: Floats
    mel_power: Floats

    @cached_property
    def magnitude(self) -> Floats:
        """Magnitudes [N, frames, bins], 1 at the loudest point of each segment."""
        magnitude = relative(self.power)
        return np.sqrt(magnitude, out=magnitude)

    @cached_property
    def mel_db(self) -> Floats:
        """Mel levels [N, frames, mels] in dB, 0 at the loudest point of each segment and never
        below -80."""
        floored = np.maximum(relative(self.mel_power), np.float32(10 ** (-DYNAMIC_RANGE_DB / 10)))
        level = np.log10(floored, out=floored)
        level *= 10
        return level

    @property
    def frame_s(self) -> float:
        """Distance of frames."""
        return self.config.frame_hop / self.config.rate_hz


def relative(power: Floats) -> Floats:
    """Scale power [N, ...] to 1 at the loudest point of each segment; digital silence stays 0."""
    loudest = power.max(axis=tuple(range(1, power.ndim)), keepdims=True)
    return power / np.maximum(loudest, np.finfo(np.float32).tiny)


def over_frames(values: Floats) -> Floats:
    """Return the STATISTICS [N, K * 3] of values by frame [N, frames] or [N, frames, K]."""
    by_frame = values.reshape(len(values), values.shape[1], -1)
    mean = by_frame.mean(axis=1, keepdims=True)
    away = by_frame - mean
    np.square(away, out=away)
    std = np.sqrt(away.mean(axis=1))
    found = np.stack([mean[:, 0], std, mean_step(by_frame)], axis=2)
    return found.reshape(len(values), -1)


def statistics(by_frame: Measured) -> Measured:
    """Return the STATISTICS [N, 3] of each of several measures by frame [N, frames]; of all at
    once, since with so few numbers it is the calls that take time."""
    values = np.stack(list(by_frame.values()), axis=2)
    segments, _, measures = values.shape
    found = over_frames(values).reshape(segments, measures, len(STATISTICS))
    return {name: found[:, place] for place, name in enumerate(by_frame)}


def mean_step(values: Floats) -> Floats:
    """Return the mean absolute step from a frame to the next of values [N, frames, ...]; 0 for a
    single frame."""
    if values.shape[1] < 2:
        return np.zeros_like(values[:, 0])
    steps = values[:, 1:] - values[:, :-1]
    np.abs(steps, out=steps)
    return steps.mean(axis=1)


def counted(flags: Flags) -> NDArray[np.int32]:
    """Count what is true along the last axis; as bytes, since booleans are added one by one."""
    return flags.view(np.uint8).sum(axis=-1, dtype=np.int32)


def are_peaks(values: Floats) -> Flags:
    """Tell which values [N, frames, K] are local maxima of their frame; the first and the last of a
    frame are none. Of a plateau of two, the first is."""
    # As one long row, which is compared in a third of the time; a frame's ends have neighbours from
    # other frames in it.
    row = values.reshape(-1)
    rises = np.zeros(len(row) + 1, bool)
    np.greater(row[1:], row[:-1], out=rises[1:-1])
    is_peak = rises[:-1] > rises[1:]  # rises to it, and not from it
    is_peak = is_peak.reshape(values.shape)
    is_peak[:, :, 0] = False
    is_peak[:, :, -1] = False
    return is_peak


def ratio(part: Floats | Doubles, whole: Floats | Doubles) -> Floats:
    """Divide, with 0 where there is nothing to divide by."""
    divisor = np.where(whole > TINY, whole, np.float32(np.inf))
    # Of one layout, whatever that of the parts: sums over it then round alike.
    return np.divide(part, divisor, order="C")


@cache
def bin_hz(fft: int, rate_hz: int) -> Floats:
    """Return the frequencies [bins] of an FFT."""
    return np.fft.rfftfreq(fft, 1 / rate_hz).astype(np.float32)
