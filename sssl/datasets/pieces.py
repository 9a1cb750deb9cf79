"""Music that a mood makes of an artist's habits: chords, bass, melody and drums, note by note."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sssl.datasets.waves import VOICES, Wave, decaying, oscillate, settled, wavetable

# Signs of (valence, arousal).
QUADRANTS = {"Q1": (1, 1), "Q2": (-1, 1), "Q3": (-1, -1), "Q4": (1, -1)}
WEAKEST = 0.4  # valence and arousal; nearer to 0 two quadrants sound alike
RELEASE_S = 0.06  # of a note
STEPS = 8  # eighth notes in a bar
LOWEST_PITCH = 36  # C2, the lowest that a bass plays
DETUNED = 1.003  # five cents: two oscillators that beat slowly sound as one instrument
# A chord is its root in semitones above the tonic and its kind.
_MAJOR_TRIAD = (0, 4, 7)
_MAJOR_SEVENTH = (0, 4, 7, 11)
_MINOR_TRIAD = (0, 3, 7)
_DIMINISHED_TRIAD = (0, 3, 6)
_CLUSTER = (0, 1, 6)
KINDS = {"M": _MAJOR_TRIAD, "j": _MAJOR_SEVENTH, "m": _MINOR_TRIAD}
KINDS |= {"o": _DIMINISHED_TRIAD, "x": _CLUSTER}
PROGRESSIONS = {
    "major": ("0M 7M 9m 5M", "0M 5M 7M 0M", "0M 9m 5M 7M", "0j 5j 2m 7M", "0M 4m 5j 7M"),
    "minor": ("0m 8M 3M 10M", "0m 5m 8M 7M", "0m 10M 8M 7M", "0m 5m 0m 7m", "0m 3M 5m 8j"),
    "tense": ("0m 1M 0m 6o", "0m 6M 5m 1M", "0o 3o 1M 0m", "0x 1x 6x 0x", "0m 0x 8M 6o"),
}
_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_MINOR = (0, 2, 3, 5, 7, 8, 10)
_TENSE = (0, 1, 3, 5, 6, 8, 11)
SCALES = {"major": _MAJOR, "minor": _MINOR, "tense": _TENSE}
# A bar of eighth notes; an x sounds until the next one. Where a voice has two lists, the first is
# for slow pieces.
COMPING = ("x..x..x.", "..x...x.", "x.x.x.x.", "xx.xx.xx", "x...x.x.")
_SLOW_BASS = ("x.......", "x...x...", "x.....x.")
_FAST_BASS = ("x.x.x.x.", "xxxxxxxx", "x..x..x.")
BASS = (_SLOW_BASS, _FAST_BASS)
_SLOW_MOTIFS = ("x...x...", "x.....x.", "x..xx...", "x...x.x.")
_FAST_MOTIFS = ("xx.xxx..", "x.xxx.x.", "x..x..x.", "xxxx.x..")
MOTIFS = (_SLOW_MOTIFS, _FAST_MOTIFS)
# Hits by drum.
DRUMS: dict[str, dict[str, str]] = {"none": {}, "brush": {"hat": "..x...x."}}
DRUMS["ballad"] = {"kick": "x.......", "snare": "....x...", "hat": "x.x.x.x."}
DRUMS["kit"] = {"kick": "x...x...", "snare": "..x...x.", "hat": "xxxxxxxx"}
DRUMS["noise"] = {"kick": "x.xxx.xx", "crash": "x...x.x.", "hat": "xxxxxxxx"}

# What a mood adds to a habit: per unit of arousal, per unit of valence, and per normal deviate, by
# which two pieces of the same mood differ. The decay time is multiplied by its exponential.
MOODS = {
    "brightness": (0.2, 0.15, 0.06),
    "drive": (0.9, -0.5, 0.15),
    "register": (0.0, 6.0, 2.0),
    "plucked": (0.0, 0.6, 0.2),
    "bpm": (36.0, 0.0, 8.0),
    "decay_s": (-0.9, -0.4, 0.2),
    "level_db": (4.0, 0.0, 2.0),
}


Pitches = Sequence[int]  # MIDI pitches


class Note(NamedTuple):
    """A note, or a hit of a drum."""

    onset: float  # in steps, as the length is
    length: float
    pitch: int  # MIDI pitch; 0 for a drum
    voice: str


def drawn(low: float, high: float) -> Any:
    """Declare a habit of artists that is uniform between two bounds."""
    return dataclasses.field(metadata={"bounds": (low, high)})


@dataclasses.dataclass(frozen=True)
class Sound:
    """How music sounds: the habits of an artist, and what a mood makes of them."""

    # Amplitude of even harmonics: hollow as a clarinet to full as a string.
    even: float = drawn(0.1, 1)
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
        away = rng.beta(2, 1.5, 2)
        strength = settled(WEAKEST + (1 - WEAKEST) * away)
        signs = QUADRANTS[quadrant]
        valence, arousal = np.multiply(signs, strength).tolist()
        names = ("drums", *MOODS)
        deviates = rng.normal(0, 1, len(names))
        deviates = settled(deviates)
        wobble = dict(zip(names, deviates.tolist(), strict=True))
        # Angry music has tense chords, sad music minor ones.
        tense_share = -valence * (0.45 + 0.45 * arousal)
        is_tense = rng.random() < tense_share
        minor = "tense" if is_tense else "minor"
        is_happy = valence > 0.2 * wobble["drums"]
        lively = "kit" if is_happy else "noise"
        gentle = str(rng.choice(["none", "none", "brush", "ballad"]))
        is_lively = arousal > rng.uniform(-0.3, 0.3)
        moved = {}
        for habit, (per_arousal, per_valence, spread) in MOODS.items():
            by_arousal = per_arousal * arousal
            by_valence = per_valence * valence
            by_chance = spread * wobble[habit]
            if habit == "decay_s":
                exponent = by_arousal + by_valence + by_chance
                factor = float(settled(math.exp(exponent)))
                moved[habit] = self.decay_s * factor
            else:
                usual = getattr(self, habit)
                moved[habit] = usual + by_arousal + by_valence + by_chance
        mode = "major" if valence > 0 else minor
        drums = lively if is_lively else gentle
        return dataclasses.replace(self, **moved, fast=arousal > 0, mode=mode, drums=drums)

    @property
    def is_plucked(self) -> bool:
        return self.plucked > 0.5

    def accompany(self, voicing: list[int]) -> list[Note]:
        """Play a bar of chords: an arpeggio, stabs, or a held pad."""
        if self.is_plucked and not self.fast:
            # Up and down again, without its lowest and its highest tone twice.
            down = voicing[-2:0:-1]
            arpeggio = [[pitch] for pitch in (*voicing, *down)]
            return write_bar("chord", "x" * STEPS, arpeggio, 2)
        comping = COMPING[int(self.comping)] if self.fast else "x......."
        gate = 0.5 if self.is_plucked else 0.95
        return write_bar("chord", comping, [voicing], gate)

    def compose(self, tonic: int, bars: int, rng: Generator) -> Iterator[Note]:
        """Write a piece over a progression of four chords; its melody has the form AABA."""
        progression = str(rng.choice(PROGRESSIONS[self.mode])).split()
        bass = str(rng.choice(BASS[self.fast]))
        motifs = rng.choice(MOTIFS[self.fast], 2).tolist()
        contours = rng.integers(-2, 3, (2, STEPS))
        scale: list[int] = []
        for octave in range(tonic, tonic + 108, 12):
            scale += [octave + tone for tone in SCALES[self.mode]]
        voicing = [round(self.register)]
        for number in range(bars):
            chord = progression[number % 4]
            root = tonic + int(chord[:-1])
            kind = KINDS[chord[-1]]
            tones = [root + interval for interval in kind]
            voicing = lead_voices(voicing, tones, self.register)
            is_b = number % 4 == 2
            part = int(is_b)
            octave_above = self.register + 12
            home = octave_above + rng.integers(-2, 3)
            melody = sing(contours[part], scale, home, voicing)
            bass_pitch = root % 12 + LOWEST_PITCH
            bar = self.accompany(voicing)
            bar += write_bar("bass", bass, [[bass_pitch]])
            bar += write_bar("lead", motifs[part], melody)
            for drum, hits in DRUMS[self.drums].items():
                bar += write_bar(drum, hits, [[0]])
            start = number * STEPS
            for note in bar:
                yield note._replace(onset=start + note.onset)

    def wavetable(self, hz: float, rolloff: float, rate_hz: int) -> Wave:
        """Return a period of a tone in the timbre of the artist."""
        return wavetable(hz, rolloff, self.even, self.formant_hz, rate_hz)

    def tone(self, voice: str, pitch: int, length_s: float, rate_hz: int) -> Wave:
        """Play a note and its release: two detuned oscillators whose upper harmonics fade first."""
        _, _, rolloff, decay = VOICES[voice]
        octaves_above_a4 = (pitch - 69) / 12
        hz = float(settled(440 * 2**octaves_above_a4))
        is_sharp = self.fast or self.is_plucked
        slower = 1 if is_sharp else 8
        attack_s = self.attack_s * slower
        decay_s = decay * self.decay_s
        rolloff = rolloff + 2.6 - 1.8 * self.brightness
        sounding_s = length_s + RELEASE_S
        samples = int(sounding_s * rate_hz)
        time_s = np.arange(samples, dtype=np.float32)
        time_s /= np.float32(rate_hz)
        bright = self.wavetable(hz, rolloff, rate_hz)
        dark = self.wavetable(hz, rolloff + 1, rate_hz)
        one = oscillate(hz, samples, rate_hz)
        two = oscillate(DETUNED * hz, samples, rate_hz)
        brightness = decaying(time_s, decay_s / 3)
        wave = dark[one] + dark[two]
        wave += brightness * bright[one]
        attack = np.minimum(1, time_s / attack_s)
        left_s = time_s[-1] - time_s
        release = np.minimum(1, left_s / RELEASE_S)
        envelope = attack * release
        loudness = decaying(time_s, decay_s)
        played = wave * envelope * loudness
        return np.asarray(played, np.float32)


def write_bar(
    voice: str, pattern: str, chords: Iterable[list[int]], gate: float = 0.95
) -> list[Note]:
    """Let each x of the pattern play the next of the chords, for `gate` of the time until the next
    x."""
    onsets = [step for step, sign in enumerate(pattern) if sign == "x"]
    nexts = [*onsets[1:], STEPS]
    again = cycle(chords)
    notes = []
    for onset, after in zip(onsets, nexts, strict=True):
        chord = next(again)
        span = after - onset
        length = gate * span
        notes += [Note(onset, length, pitch, voice) for pitch in chord]
    return notes


def lead_voices(previous: Pitches, chord: Iterable[int], center: float) -> list[int]:
    """Put each tone into the octave that is nearest to some tone of the chord before, and not far
    from the center."""

    def distance(pitch: int) -> float:
        nearest = min(abs(pitch - old) for old in previous)
        return nearest + 0.3 * abs(pitch - center)

    voicing = []
    for tone in chord:
        in_all_octaves = range(tone % 12, 120, 12)
        voicing.append(min(in_all_octaves, key=distance))
    return sorted(voicing)


def sing(
    contour: NDArray[np.int64], scale: Pitches, home: float, voicing: Pitches
) -> list[list[int]]:
    """Walk along the scale from near `home`, every second note on a tone of the chord."""
    from_home = np.abs(np.subtract(scale, home))
    start = np.argmin(from_home)
    places = start + np.cumsum(contour)
    tones: list[int] = []
    for tone in voicing:
        tones += range(tone % 12, 120, 12)
    melody = []
    for number, place in enumerate(places):
        pitch = scale[place]
        if number % 2 == 0:
            apart = [abs(tone - pitch) for tone in tones]
            nearest = apart.index(min(apart))
            pitch = tones[nearest]
        melody.append([pitch])
    return melody
