"""Waves that come out alike on every machine: wavetables, drums, and a room to hear them in.

Sums, products, quotients and square roots of floats round alike everywhere. Powers, exponentials,
sines, Fourier transforms and sums over arrays do not: their last bits depend on the processor. So
they are `settled` before they are used.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Wave = NDArray[np.float32]

# After the binary point: far from the last bits of a double, and finer than the samples' 16 bits.
SETTLED_BITS = 20
TABLE_BITS = 11  # of the number of samples in a period of a wavetable
TABLE = 1 << TABLE_BITS
HIGHEST_SHARE = 0.45  # of the sample rate; from half of it on harmonics would fold back
# Delays of the room's echoes, as in Schroeder's paper: incommensurate, so that they do not meet.
COMBS_S = (0.0297, 0.0371, 0.0411, 0.0437)
SECOND_CHANNEL = 0.02  # by which its delays are longer, or a room in stereo would sound as in mono
ROOM_S = 0.8  # in which the room's sound decays by 60 dB
DRUM_S = 0.4


class Voice(NamedTuple):
    """How an instrument, or a drum, sounds beside the others."""

    gain: float
    pan: float  # between left 0 and right 1
    rolloff: float  # is added to that of the harmonics
    decay: float  # factor of the decay; of a drum the decay in seconds


VOICES = {
    "chord": Voice(0.12, 0.35, 0, 2),
    "lead": Voice(0.26, 0.6, -0.2, 1.5),
    "bass": Voice(0.4, 0.5, 0.5, 2),
    "hat": Voice(0.1, 0.7, 0, 0.03),
    "kick": Voice(0.7, 0.5, 0, 0.11),
    "snare": Voice(0.4, 0.5, 0, 0.06),
    "crash": Voice(0.22, 0.45, 0, 0.15),
}


def settled(values: Any) -> NDArray[np.float64]:
    """Round to multiples of 2^-SETTLED_BITS."""
    scale = 2.0**SETTLED_BITS
    whole = np.rint(np.multiply(values, scale))
    return np.asarray(whole / scale)


def power_of_ten(exponent: float) -> float:
    """Return 10^exponent, settled."""
    return float(settled(10**exponent))


def noise(shape: int | tuple[int, ...], rng: Generator) -> Wave:
    """Draw white noise of RMS 1: uniform, so that no tail of it depends on a logarithm."""
    uniform = rng.random(shape, np.float32)
    centred = uniform - np.float32(0.5)
    width = np.float32(12**0.5)  # of a uniform distribution whose variance is 1
    return centred * width


def saturated(wave: Wave) -> Wave:
    """Bend samples beyond full scale softly into it."""
    bent = wave / np.sqrt(1 + wave * wave)
    return np.asarray(bent, np.float32)


def wavetable(hz: float, rolloff: float, even: float, formant_hz: float, rate_hz: int) -> Wave:
    """Add harmonics to a period [TABLE] of RMS 1, without any that the sample rate has not."""
    highest = int(HIGHEST_SHARE * rate_hz / hz)
    last = min(TABLE // 4, highest)
    order = np.arange(1, last + 1)
    octaves = np.log2(order * hz / formant_hz)
    formant_widths = octaves / 0.5
    formant = 1 + 3 * np.exp(-np.square(formant_widths))
    strength = np.where(order % 2, 1, even)
    spectrum = np.zeros(TABLE // 2 + 1)
    spectrum[order] = order**-rolloff * formant * strength
    table = np.fft.irfft(spectrum)
    rms = np.sqrt(np.mean(table**2))
    return settled(table / rms).astype(np.float32)


def oscillate(hz: float, samples: int, rate_hz: int) -> NDArray[np.uint32]:
    """Return the place in a wavetable of each sample [samples]: the upper bits of a phase that
    counts modulo 2^32."""
    step = np.uint32(hz / rate_hz * 2**32)
    phase = np.arange(samples, dtype=np.uint32) * step
    return phase >> np.uint32(32 - TABLE_BITS)


def decaying(time_s: NDArray[np.floating], decay_s: float) -> Wave:
    """Return exp(-t / decay_s)."""
    decays = time_s.astype(np.float64) / -decay_s
    exact = np.exp(decays)
    return settled(exact).astype(np.float32)


def strike(drum: str, rate_hz: int, rng: Generator) -> Wave:
    """Play a drum: a falling sine, or noise."""
    time_s = np.arange(int(DRUM_S * rate_hz)) / rate_hz
    if drum == "kick":
        # Falls from 198 Hz to 48 Hz: the phase is the integral of 48 + 150 exp(-25 t).
        fallen = 1 - np.exp(-25 * time_s)
        cycles = 48 * time_s + 6 * fallen
        phase = 2 * np.pi * cycles
        sine = np.sin(phase)
        wave = settled(sine).astype(np.float32)
    else:
        # Differences of noise are bright: a hat. Noise itself is a snare or a crash.
        hiss = noise(time_s.size + 1, rng)
        wave = np.diff(hiss, n=int(drum == "hat"))
        wave = wave[: time_s.size]
    return wave * decaying(time_s, VOICES[drum].decay)


def reverberate(dry: Wave, share: float, rate_hz: int) -> Wave:
    """Add a room: parallel combs, whose delays differ by channel [C, T].

    Schroeder, "Natural sounding artificial reverberation", 1962.
    """
    wet = np.zeros_like(dry)
    for number, (source, target) in enumerate(zip(dry, wet, strict=True)):
        longer = 1 + SECOND_CHANNEL * number
        for delay_s in COMBS_S:
            delay = int(delay_s * longer * rate_hz)
            left = power_of_ten(-3 * delay_s / ROOM_S)
            target += comb(source, delay, -left)  # negative: no echo adds up at 0 Hz
    of_each = np.float32(share / len(COMBS_S))
    return dry + of_each * wet


def comb(wave: Wave, delay: int, gain: float) -> Wave:
    """Return the echoes of a wave [T]: y[t] = gain * (x[t - delay] + y[t - delay])."""
    echoes = np.zeros_like(wave)
    quieter = np.float32(gain)
    # A delay's worth of samples at once: they do not echo each other.
    for start in range(delay, wave.size, delay):
        end = min(start + delay, wave.size)
        before = slice(start - delay, end - delay)
        heard = wave[before] + echoes[before]
        echoes[start:end] = quieter * heard
    return echoes
