"""A small catalog of synthesized music whose truth is known: `make demo` runs on it and is measured
against it.

A piece comes from a point in Russell's plane of valence and arousal and is played in the timbre of
an artist. Some tracks carry sections of another quadrant than their label, and some files are
broken, as in any catalog.

A seed gives the same samples on every machine. Sums, products, quotients and square roots of floats
round alike everywhere. Powers, exponentials, sines, Fourier transforms and sums over arrays do not:
their last bits depend on the processor. So they are `settled` before they are used.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray

Wave = NDArray[np.float32]
Section = tuple[int, int, str]  # start_s, end_s, quadrant
Note = tuple[float, float, int, str]  # onset and length in steps, MIDI pitch (0 for a drum), voice
Progress = Callable[[int, int], None]  # is given the tracks done, and all

QUADRANTS = {
    "Q1": (1, 1),
    "Q2": (-1, 1),
    "Q3": (-1, -1),
    "Q4": (1, -1),
}  # signs of (valence, arousal)
TRACKS = 112  # four of each of 28 artists: enough that no track and no artist decides
WEAKEST = 0.4  # valence and arousal; nearer to 0 two quadrants sound alike
FADE_S, RELEASE_S = 0.15, 0.06  # of a section, of a note
STEPS = 8  # eighth notes in a bar
TABLE_BITS = 11  # of the number of samples in a period of a wavetable
TABLE = 1 << TABLE_BITS
# After the binary point: far from the last bits of a double, and finer than the samples' 16 bits.
SETTLED_BITS = 20
COMBS_S = (0.0297, 0.0371, 0.0411, 0.0437)  # delays of the room's echoes
ROOM_S = 0.8  # in which the room's sound decays by 60 dB
# Suffix, sample rate in Hz, channels: a format for each artist, shifted by quadrant, so that no
# codec, rate or channel count gives a quadrant or an artist away. Few of them take longer to encode
# than to synthesize.
FORMATS = (
    ("wav", 22_050, 1), ("mp3", 44_100, 1), ("m4a", 32_000, 2), ("opus", 24_000, 1),
    ("ogg", 44_100, 1),
    ("opus", 48_000, 1), ("mp3", 22_050, 1), ("m4a", 32_000, 1), ("ogg", 32_000, 1),
    ("opus", 24_000, 2),
    ("mp3", 32_000, 1), ("ogg", 22_050, 2), ("m4a", 44_100, 1), ("flac", 22_050, 1),
)  # fmt: skip
# Container, codec, and the options that make it quick.
AV_CODECS = {
    "mp3": ("mp3", "libmp3lame", {"compression_level": "7"}),
    "m4a": ("ipod", "aac", {"aac_coder": "fast"}),
    "opus": ("ogg", "libopus", {"compression_level": "0"}),
}
# A chord is its root in semitones above the tonic and its kind.
KINDS = {"M": (0, 4, 7), "j": (0, 4, 7, 11), "m": (0, 3, 7), "o": (0, 3, 6), "x": (0, 1, 6)}
PROGRESSIONS = {
    "major": ("0M 7M 9m 5M", "0M 5M 7M 0M", "0M 9m 5M 7M", "0j 5j 2m 7M", "0M 4m 5j 7M"),
    "minor": ("0m 8M 3M 10M", "0m 5m 8M 7M", "0m 10M 8M 7M", "0m 5m 0m 7m", "0m 3M 5m 8j"),
    "tense": ("0m 1M 0m 6o", "0m 6M 5m 1M", "0o 3o 1M 0m", "0x 1x 6x 0x", "0m 0x 8M 6o"),
}
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "tense": (0, 1, 3, 5, 6, 8, 11),
}
# A bar of eighth notes; an x sounds until the next one. Where a voice has two lists, the first is
# for slow pieces.
COMPING = ("x..x..x.", "..x...x.", "x.x.x.x.", "xx.xx.xx", "x...x.x.")
BASS = (("x.......", "x...x...", "x.....x."), ("x.x.x.x.", "xxxxxxxx", "x..x..x."))
MOTIFS = (
    ("x...x...", "x.....x.", "x..xx...", "x...x.x."),
    ("xx.xxx..", "x.xxx.x.", "x..x..x.", "xxxx.x.."),
)
DRUMS: dict[str, dict[str, str]] = {
    "none": {}, "brush": {"hat": "..x...x."},
    "ballad": {"kick": "x.......", "snare": "....x...", "hat": "x.x.x.x."},
    "kit": {"kick": "x...x...", "snare": "..x...x.", "hat": "xxxxxxxx"},
    "noise": {"kick": "x.xxx.xx", "crash": "x...x.x.", "hat": "xxxxxxxx"},
}  # fmt: skip
# Gain, place between left 0 and right 1, summand of the rolloff, factor of the decay (of a drum:
# the decay in seconds).
VOICES = {
    "chord": (0.12, 0.35, 0, 2), "lead": (0.26, 0.6, -0.2, 1.5), "bass": (0.4, 0.5, 0.5, 2),
    "hat": (0.1, 0.7, 0, 0.03),
    "kick": (0.7, 0.5, 0, 0.11), "snare": (0.4, 0.5, 0, 0.06), "crash": (0.22, 0.45, 0, 0.15),
}  # fmt: skip


def settled(values: Any) -> NDArray[np.float64]:
    """Round to multiples of 2^-SETTLED_BITS."""
    return np.asarray(np.rint(np.multiply(values, 2.0**SETTLED_BITS)) / 2.0**SETTLED_BITS)


def power_of_ten(exponent: float) -> float:
    """Return 10^exponent, settled."""
    return float(settled(10**exponent))


def noise(shape: int | tuple[int, ...], rng: Generator) -> Wave:
    """Draw white noise of RMS 1: uniform, so that no tail of it depends on a logarithm."""
    return (rng.random(shape, np.float32) - np.float32(0.5)) * np.float32(12**0.5)


def saturated(wave: Wave) -> Wave:
    """Bend samples beyond full scale softly into it."""
    return np.asarray(wave / np.sqrt(1 + wave * wave), np.float32)


def drawn(low: float, high: float) -> Any:
    """Declare a habit of artists that is uniform between two bounds."""
    return dataclasses.field(metadata={"bounds": (low, high)})


@dataclasses.dataclass(frozen=True)
class Sound:
    """How music sounds: the habits of an artist, and what a mood makes of them."""

    even: float = drawn(
        0.1, 1
    )  # amplitude of even harmonics: hollow as a clarinet to full as a string
    formant_hz: float = drawn(500, 2_500)
    attack_s: float = drawn(0.004, 0.03)
    reverb: float = drawn(0.2, 0.8)  # amplitude ratio to the direct sound
    comping: float = drawn(0, len(COMPING))  # its integer part is an index
    hiss_db: float = drawn(-75, -52)
    brightness: float = drawn(0.33, 0.57)
    drive: float = drawn(-0.5, -0.1)  # distortion, above 0.1
    register: float = drawn(56, 64)  # MIDI pitch
    plucked: float = drawn(0.3, 0.7)  # above 0.5 chords are plucked, else held
    bpm: float = 98
    decay_s: float = 1.2
    level_db: float = -21
    fast: bool = False
    mode: str = "major"
    drums: str = "none"

    def in_mood(self, quadrant: str, rng: Generator) -> Sound:
        """Move to a random point of the quadrant, not too near to its neighbours."""
        strength = settled(WEAKEST + (1 - WEAKEST) * rng.beta(2, 1.5, 2))
        valence, arousal = np.multiply(QUADRANTS[quadrant], strength).tolist()
        wobble = settled(rng.normal(0, 1, 8)).tolist()
        minor = "tense" if rng.random() < -valence * (0.45 + 0.45 * arousal) else "minor"
        lively = "kit" if valence > 0.2 * wobble[0] else "noise"
        gentle = str(rng.choice(["none", "none", "brush", "ballad"]))
        return dataclasses.replace(
            self,
            brightness=self.brightness + 0.2 * arousal + 0.15 * valence + 0.06 * wobble[1],
            drive=self.drive + 0.9 * arousal - 0.5 * valence + 0.15 * wobble[2],
            register=self.register + 6 * valence + 2 * wobble[3],
            plucked=self.plucked + 0.6 * valence + 0.2 * wobble[4],
            bpm=self.bpm + 36 * arousal + 8 * wobble[5],
            decay_s=self.decay_s
            * float(settled(math.exp(-0.9 * arousal - 0.4 * valence + 0.2 * wobble[6]))),
            level_db=self.level_db + 4 * arousal + 2 * wobble[7],
            fast=arousal > 0,
            mode="major" if valence > 0 else minor,
            drums=lively if arousal > rng.uniform(-0.3, 0.3) else gentle,
        )

    def accompany(self, voicing: list[int]) -> list[Note]:
        """Play a bar of chords: an arpeggio, stabs, or a held pad."""
        if self.plucked > 0.5 and not self.fast:
            return write_bar(
                "chord", "x" * STEPS, [[pitch] for pitch in (*voicing, *voicing[-2:0:-1])], 2
            )
        comping = COMPING[int(self.comping)] if self.fast else "x......."
        return write_bar("chord", comping, [voicing], 0.5 if self.plucked > 0.5 else 0.95)

    def compose(self, tonic: int, bars: int, rng: Generator) -> Iterator[Note]:
        """Write a piece over a progression of four chords; its melody has the form AABA."""
        chords = [
            (int(chord[:-1]), KINDS[chord[-1]])
            for chord in str(rng.choice(PROGRESSIONS[self.mode])).split()
        ]
        bass, motifs = str(rng.choice(BASS[self.fast])), rng.choice(MOTIFS[self.fast], 2).tolist()
        contours = rng.integers(-2, 3, (2, STEPS))
        scale = [
            tonic + octave + tone for octave in range(0, 108, 12) for tone in SCALES[self.mode]
        ]
        voicing = [round(self.register)]
        for number in range(bars):
            root, kind = chords[number % 4]
            voicing = lead_voices(
                voicing, [tonic + root + interval for interval in kind], self.register
            )
            part, home = int(number % 4 == 2), self.register + 12 + rng.integers(-2, 3)
            bar = self.accompany(voicing) + write_bar("bass", bass, [[(tonic + root) % 12 + 36]])
            bar += write_bar("lead", motifs[part], sing(contours[part], scale, home, voicing))
            bar += [
                note
                for drum, hits in DRUMS[self.drums].items()
                for note in write_bar(drum, hits, [[0]])
            ]
            yield from (
                (number * STEPS + step, steps, pitch, voice) for step, steps, pitch, voice in bar
            )

    def wavetable(self, hz: float, rolloff: float, rate_hz: int) -> Wave:
        """Add harmonics below 0.45 of the sample rate to a period of RMS 1: [TABLE]."""
        order = np.arange(1, min(TABLE // 4, int(0.45 * rate_hz / hz)) + 1)
        formant = 1 + 3 * np.exp(-np.square(np.log2(order * hz / self.formant_hz) / 0.5))
        spectrum = np.zeros(TABLE // 2 + 1)
        spectrum[order] = order**-rolloff * formant * np.where(order % 2, 1, self.even)
        table = np.fft.irfft(spectrum)
        return settled(table / np.sqrt(np.mean(table**2))).astype(np.float32)

    def tone(self, voice: str, pitch: int, length_s: float, rate_hz: int) -> Wave:
        """Play a note and its release: two detuned oscillators whose upper harmonics fade first."""
        (_, _, rolloff, decay), hz = VOICES[voice], float(settled(440 * 2 ** ((pitch - 69) / 12)))
        attack_s = self.attack_s * (1 if self.fast or self.plucked > 0.5 else 8)
        decay_s, rolloff = decay * self.decay_s, rolloff + 2.6 - 1.8 * self.brightness
        time_s = np.arange(int((length_s + RELEASE_S) * rate_hz), dtype=np.float32) / np.float32(
            rate_hz
        )
        bright, dark = (self.wavetable(hz, rolloff + extra, rate_hz) for extra in (0, 1))
        one, two = (oscillate(detuned_hz, time_s.size, rate_hz) for detuned_hz in (hz, 1.003 * hz))
        wave = dark[one] + dark[two] + decaying(time_s, decay_s / 3) * bright[one]
        envelope = np.minimum(1, time_s / attack_s) * np.minimum(
            1, (time_s[-1] - time_s) / RELEASE_S
        )
        return np.asarray(wave * envelope * decaying(time_s, decay_s), np.float32)


def oscillate(hz: float, samples: int, rate_hz: int) -> NDArray[np.uint32]:
    """Return the place in a wavetable of each sample [samples]: the upper bits of a phase that
    counts modulo 2^32."""
    step = np.uint32(hz / rate_hz * 2**32)
    return (np.arange(samples, dtype=np.uint32) * step) >> np.uint32(32 - TABLE_BITS)


def decaying(time_s: NDArray[np.floating], decay_s: float) -> Wave:
    """Return exp(-t / decay_s)."""
    return settled(np.exp(time_s.astype(np.float64) / -decay_s)).astype(np.float32)


def write_bar(
    voice: str, pattern: str, chords: Iterable[list[int]], gate: float = 0.95
) -> list[Note]:
    """Let each x of the pattern play the next of the chords, for `gate` of the time until the next
    x."""
    onsets = [step for step, sign in enumerate(pattern) if sign == "x"]
    spans = zip(onsets, [*onsets[1:], STEPS], cycle(chords), strict=False)
    return [
        (onset, gate * (after - onset), pitch, voice)
        for onset, after, chord in spans
        for pitch in chord
    ]


def lead_voices(previous: Sequence[int], chord: Iterable[int], center: float) -> list[int]:
    """Put each tone into the octave that is nearest to some tone of the chord before, and not far
    from the center."""
    return sorted(
        min(
            range(tone % 12, 120, 12),
            key=lambda at: min(abs(at - old) for old in previous) + 0.3 * abs(at - center),
        )
        for tone in chord
    )


def sing(
    contour: NDArray[np.int64], scale: Sequence[int], home: float, voicing: Sequence[int]
) -> list[list[int]]:
    """Walk along the scale from near `home`, every second note on a tone of the chord."""
    walk = [
        scale[place] for place in np.argmin(np.abs(np.subtract(scale, home))) + np.cumsum(contour)
    ]
    tones = [tone % 12 + octave for tone in voicing for octave in range(0, 120, 12)]
    walk[::2] = [min(tones, key=lambda tone: abs(tone - pitch)) for pitch in walk[::2]]
    return [[pitch] for pitch in walk]


def strike(drum: str, rate_hz: int, rng: Generator) -> Wave:
    """Play a drum: a falling sine, or noise."""
    time_s = np.arange(int(0.4 * rate_hz)) / rate_hz
    if drum == "kick":
        cycles = 48 * time_s + 6 * (1 - np.exp(-25 * time_s))
        wave = settled(np.sin(2 * np.pi * cycles)).astype(np.float32)
    else:
        wave = np.diff(noise(time_s.size + 1, rng), n=int(drum == "hat"))[: time_s.size]
    return wave * decaying(time_s, VOICES[drum][3])


def reverberate(dry: Wave, share: float, rate_hz: int) -> Wave:
    """Add a room: parallel combs, whose delays differ by channel [C, T].

    Schroeder, "Natural sounding artificial reverberation", 1962.
    """
    wet = np.zeros_like(dry)
    for number, (source, target) in enumerate(zip(dry, wet, strict=True)):
        for delay_s in COMBS_S:
            delay = int(delay_s * (1 + 0.02 * number) * rate_hz)
            target += comb(
                source, delay, -power_of_ten(-3 * delay_s / ROOM_S)
            )  # negative: no echo adds up at 0 Hz
    return dry + np.float32(share / len(COMBS_S)) * wet


def comb(wave: Wave, delay: int, gain: float) -> Wave:
    """Return the echoes of a wave [T]: y[t] = gain * (x[t - delay] + y[t - delay])."""
    echoes, quieter = np.zeros_like(wave), np.float32(gain)
    for start in range(
        delay, wave.size, delay
    ):  # a delay's worth of samples at once: they do not echo each other
        size = min(delay, wave.size - start)
        before = slice(start - delay, start - delay + size)
        echoes[start : start + size] = quieter * (wave[before] + echoes[before])
    return echoes


@dataclasses.dataclass(frozen=True)
class Track:
    """What is to be synthesized, and the truth about it."""

    track_id: str
    group_id: str
    artist: Sound
    label: str
    duration_s: int
    sections: tuple[Section, ...]
    tonic: int
    format: tuple[str, int, int]
    seed: tuple[int, int]

    @property
    def planted(self) -> list[Section]:
        return [section for section in self.sections if section[2] != self.label]

    def play(self, quadrant: str, length_s: float, rng: Generator) -> Wave:
        """Compose and synthesize a piece in the artist's timbre and the track's key: [C, length_s *
        rate_hz]."""
        sound, (_, rate_hz, channels) = self.artist.in_mood(quadrant, rng), self.format
        step_s, size = 30 / sound.bpm, int(length_s * rate_hz)
        drums, tones = np.zeros((2, channels, size), np.float32)
        waves: dict[tuple[str, int, float], Wave] = {}
        for step, steps, pitch, voice in sound.compose(
            self.tonic, math.ceil(length_s / step_s / STEPS), rng
        ):
            key, (gain, pan, _, _), offbeat = (
                (voice, pitch, steps * step_s),
                VOICES[voice],
                step % 2,
            )
            if key not in waves:
                waves[key] = sound.tone(*key, rate_hz) if pitch else strike(voice, rate_hz, rng)
            start = int((step + rng.uniform(0, 0.03)) * step_s * rate_hz)
            wave = waves[key][: max(0, size - start)] * (gain * (1 - 0.3 * offbeat))
            for channel, side in enumerate((1 - pan, pan)[:channels]):
                (tones if pitch else drums)[channel, start : start + wave.size] += 2 * side * wave
        if sound.drive > 0.1:
            tones = saturated(tones * (1 + 6 * sound.drive)) / (1 + 2 * sound.drive)
        mix = reverberate(drums + tones, sound.reverb, rate_hz)
        power = np.mean(mix.astype(np.float64) ** 2)
        return mix * np.float32(settled(10 ** (sound.level_db / 20) / np.sqrt(power)))

    def synthesize(self) -> Wave:
        """Cross-fade the planted sections into the piece of the label, in 16 bits: [C, duration_s *
        rate_hz]."""
        rng, rate_hz = np.random.default_rng(self.seed), self.format[1]
        wave = self.play(self.label, self.duration_s, rng)
        ramp = (np.arange(int(FADE_S * rate_hz)) / (FADE_S * rate_hz)).astype(np.float32)
        for start_s, end_s, quadrant in self.planted:
            other, start = (
                self.play(quadrant, end_s - start_s + FADE_S, rng),
                int((start_s - FADE_S / 2) * rate_hz),
            )
            weight = np.concatenate(
                [ramp, np.ones(other.shape[1] - 2 * ramp.size, np.float32), ramp[::-1]]
            )
            span = wave[:, start : start + weight.size]
            span += weight * (other - span)
        hiss = np.float32(power_of_ten(self.artist.hiss_db / 20)) * noise(wave.shape, rng)
        return np.asarray(np.rint(saturated(wave + hiss) * 2**15) / 2**15, np.float32)


def plan_sections(duration_s: int, label: str, rng: Generator) -> tuple[Section, ...]:
    """Plant one section of 14-20 s in another quadrant, or two of 10-12 s: less than half of the
    track."""
    planted_s = round(duration_s * rng.uniform(0.34, 0.42))
    count = 1 if planted_s <= 20 else 2
    length_s, stretch_s, end_s, sections = planted_s // count, duration_s // count, 0, []
    for number in range(count):
        start_s = number * stretch_s + int(rng.integers(3, stretch_s - length_s - 2))
        other = str(rng.choice([quadrant for quadrant in QUADRANTS if quadrant != label]))
        sections += [(end_s, start_s, label), (start_s, start_s + length_s, other)]
        end_s = start_s + length_s
    return (*sections, (end_s, duration_s, label))


def plan_tracks(tracks: int, seed: int) -> list[Track]:
    """Balance quadrants over artists and formats, and plant sections in a random 40 % of the
    tracks."""
    rng = np.random.default_rng([seed, 0])
    bounds = {
        field.name: field.metadata["bounds"]
        for field in dataclasses.fields(Sound)
        if field.metadata
    }
    artists = [
        Sound(**{name: rng.uniform(*pair) for name, pair in bounds.items()})
        for _ in range(max(1, tracks // len(QUADRANTS)))
    ]
    planted = rng.permutation(tracks) < round(0.4 * tracks)
    plan = []
    for index in range(tracks):
        row, column = divmod(index, len(QUADRANTS))
        artist, form = row % len(artists), FORMATS[(row + 4 * column) % len(FORMATS)]
        label, duration_s, tonic = (
            list(QUADRANTS)[column],
            int(rng.triangular(40, 44, 60)),
            int(rng.integers(12)),
        )
        sections = (
            plan_sections(duration_s, label, rng) if planted[index] else ((0, duration_s, label),)
        )
        ids, track_seed = (f"track{index + 1:03d}", f"artist{artist + 1:02d}"), (seed, index + 1)
        plan.append(
            Track(*ids, artists[artist], label, duration_s, sections, tonic, form, track_seed)
        )
    return plan


def encode(wave: Wave, suffix: str, rate_hz: int) -> bytes:
    """Encode [C, T]. The same samples give the same bytes, but for the random stream number of Ogg
    Vorbis."""
    target, channels = io.BytesIO(), len(wave)
    if suffix not in AV_CODECS:
        with soundfile.SoundFile(target, "w", rate_hz, channels, format=suffix) as file:
            # libsndfile's Vorbis encoder overflows the stack on long writes.
            for start in range(0, wave.shape[1], 4096):
                file.write(wave[:, start : start + 4096].T)
        return target.getvalue()
    container, codec, options = AV_CODECS[suffix]
    with av.open(target, "w", format=container, options={"fflags": "bitexact"}) as output:
        stream: Any = output.add_stream(codec, rate_hz, layout=("mono", "stereo")[channels - 1])
        stream.bit_rate, stream.options = 48_000 * channels, options
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), "fltp", stream.layout.name)
        frame.sample_rate = rate_hz
        output.mux([*stream.encode(frame), *stream.encode(None)])
    return target.getvalue()


def replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a rerun after a kill, never meets half of it."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def encoded(track: Track) -> bytes:
    return encode(track.synthesize(), *track.format[:2])


def write_new(path: Path, content: Callable[[], bytes]) -> None:
    """Write a file unless it is there: one that is written again would look changed to the next
    run."""
    if not path.exists():
        replace(path, content())


def halve(content: bytes) -> bytes:
    return content[: len(content) // 2]


def write_broken(audio: Path, seed: int) -> list[list[object]]:
    """Write what catalogs are never without; return its rows."""
    track = dataclasses.replace(plan_tracks(1, seed)[0], seed=(seed, 0))
    silence = np.zeros((1, 20 * 22_050), np.float32)
    contents: dict[str, Callable[[], bytes]] = {
        "broken-text.mp3": lambda: (
            b"404 Not Found: the download saved this page in place of the music.\n" * 20
        ),
        "broken-cut.flac": lambda: halve(encode(track.synthesize(), "flac", 22_050)),
        "broken-silent.wav": lambda: encode(silence, "wav", 22_050),
    }
    for name, content in contents.items():
        write_new(audio / name, content)
    return [
        ["broken-text", audio / "broken-text.mp3", "Q4", track.group_id, ""],
        ["broken-cut", audio / "broken-cut.flac", track.label, track.group_id, track.duration_s],
        ["broken-silent", audio / "broken-silent.wav", "Q3", track.group_id, 20],
        ["broken-missing", audio / "broken-missing.ogg", "Q2", track.group_id, 45],
    ]


@dataclasses.dataclass(frozen=True)
class DemoCatalog:
    """Where the catalog and its truth lie, and how much is planted in them."""

    catalog: Path
    truth: Path
    tracks: int
    planted_tracks: int
    planted_sections: int


def make_catalog(
    folder: str | Path, tracks: int = TRACKS, seed: int = 0, progress: Progress | None = None
) -> DemoCatalog:
    """Write `audio/`, `truth.csv` and, last, `catalog.csv`; a file that is there already is kept,
    so give each seed its own folder."""
    root, plan = Path(folder).absolute(), plan_tracks(tracks, seed)
    (root / "audio").mkdir(parents=True, exist_ok=True)
    paths = [root / "audio" / f"{track.track_id}.{track.format[0]}" for track in plan]
    # Threads do: NumPy and FFmpeg let others run while they compute.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        written = pool.map(write_new, paths, [partial(encoded, track) for track in plan])
        for done, _ in enumerate(written, 1):
            if progress:
                progress(done, tracks)
    rows: list[list[object]] = [
        [track.track_id, path, track.label, track.group_id, track.duration_s]
        for track, path in zip(plan, paths, strict=True)
    ]
    rows += write_broken(root / "audio", seed)
    catalog = pd.DataFrame(rows, columns=["track_id", "uri", "label", "group_id", "expected_s"])
    sections = [(track.track_id, *section) for track in plan for section in track.sections]
    truth = pd.DataFrame(sections, columns=["track_id", "start_s", "end_s", "true_label"])
    for name, table in (("truth.csv", truth), ("catalog.csv", catalog)):
        replace(root / name, table.to_csv(index=False).encode())
    planted = [len(track.planted) for track in plan if track.planted]
    return DemoCatalog(root / "catalog.csv", root / "truth.csv", tracks, len(planted), sum(planted))
