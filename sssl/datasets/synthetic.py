"""A small catalog of synthesized music whose truth is known: `make demo` runs on it and is measured
against it.

A piece comes from a point in Russell's plane of valence and arousal and is played in the timbre of
an artist. Some tracks carry sections of another quadrant than their label, and some files are
broken, as in any catalog. A seed gives the same samples on every machine (see `waves`).
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pandas as pd
import soundfile
from numpy.random import Generator

from sssl.datasets.pieces import QUADRANTS, STEPS, Sound
from sssl.datasets.waves import (
    VOICES,
    Wave,
    noise,
    power_of_ten,
    reverberate,
    saturated,
    settled,
    strike,
)

Section = tuple[int, int, str]  # start_s, end_s, quadrant
Tone = tuple[str, int, float]  # voice, pitch, length_s
Progress = Callable[[int, int], None]  # is given the tracks done, and all

TRACKS = 112  # four of each of 28 artists: enough that no track and no artist decides
FADE_S = 0.15  # of a section
PLANTED_SHARE = 0.4  # of the tracks
# A format for each artist, shifted by quadrant, so that no codec, rate or channel count gives a
# quadrant or an artist away. Few of them take longer to encode than to synthesize.
_FORMATS = """
wav 22050 1, mp3 44100 1, m4a 32000 2, opus 24000 1, ogg 44100 1, opus 48000 1, mp3 22050 1,
m4a 32000 1, ogg 32000 1, opus 24000 2, mp3 32000 1, ogg 22050 2, m4a 44100 1, flac 22050 1
"""
# Container, codec, and the options that make it quick.
AV_CODECS = {
    "mp3": ("mp3", "libmp3lame", {"compression_level": "7"}),
    "m4a": ("ipod", "aac", {"aac_coder": "fast"}),
    "opus": ("ogg", "libopus", {"compression_level": "0"}),
}
LIBSNDFILE_SAMPLES = 4096  # per write: its Vorbis encoder overflows the stack on long ones


class Format(NamedTuple):
    """A format of files."""

    suffix: str
    rate_hz: int
    channels: int

    @classmethod
    def of(cls, text: str) -> Format:
        """Read `wav 22050 1`."""
        suffix, rate_hz, channels = text.split()
        return cls(suffix, int(rate_hz), int(channels))


FORMATS = tuple(Format.of(text) for text in _FORMATS.split(","))


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
    format: Format
    seed: tuple[int, int]

    @property
    def file_name(self) -> str:
        return f"{self.track_id}.{self.format.suffix}"

    @property
    def planted(self) -> list[Section]:
        return [section for section in self.sections if section[2] != self.label]

    def play(self, quadrant: str, length_s: float, rng: Generator) -> Wave:
        """Compose and synthesize a piece in the artist's timbre and the track's key: [C, length_s *
        rate_hz]."""
        sound = self.artist.in_mood(quadrant, rng)
        rate_hz = self.format.rate_hz
        step_s = 30 / sound.bpm
        bars = math.ceil(length_s / step_s / STEPS)
        size = int(length_s * rate_hz)
        shape = (self.format.channels, size)
        drums = np.zeros(shape, np.float32)
        tones = np.zeros(shape, np.float32)
        # A note that comes back is synthesized once.
        waves: dict[Tone, Wave] = {}
        for note in sound.compose(self.tonic, bars, rng):
            key = (note.voice, note.pitch, note.length * step_s)
            if key not in waves:
                waves[key] = _wave(sound, key, rate_hz, rng)
            # Nobody plays quite in time, nor offbeats as loud as beats.
            onset = note.onset + rng.uniform(0, 0.03)
            start = int(onset * step_s * rate_hz)
            voice = VOICES[note.voice]
            gain = voice.gain * (1 - 0.3 * (note.onset % 2))
            room = max(0, size - start)  # the end of the piece cuts notes off
            wave = waves[key][:room] * gain
            end = start + wave.size
            to = tones if note.pitch else drums
            sides = (1 - voice.pan, voice.pan)
            for channel, side in zip(to, sides, strict=False):  # mono: the first side alone
                channel[start:end] += 2 * side * wave
        if sound.drive > 0.1:
            driven = saturated(tones * (1 + 6 * sound.drive))
            tones = driven / (1 + 2 * sound.drive)
        mix = reverberate(drums + tones, sound.reverb, rate_hz)
        power = np.mean(mix.astype(np.float64) ** 2)
        wanted = 10 ** (sound.level_db / 20)
        gain_to_level = settled(wanted / np.sqrt(power))
        return mix * np.float32(gain_to_level)

    def synthesize(self) -> Wave:
        """Cross-fade the planted sections into the piece of the label, in 16 bits: [C, duration_s *
        rate_hz]."""
        rng = np.random.default_rng(self.seed)
        rate_hz = self.format.rate_hz
        wave = self.play(self.label, self.duration_s, rng)
        fade = FADE_S * rate_hz
        rising = np.arange(int(fade)) / fade
        ramp = rising.astype(np.float32)
        for start_s, end_s, quadrant in self.planted:
            length_s = end_s - start_s + FADE_S
            other = self.play(quadrant, length_s, rng)
            start = int((start_s - FADE_S / 2) * rate_hz)
            between = other.shape[1] - 2 * ramp.size
            full = np.ones(between, np.float32)
            weight = np.concatenate([ramp, full, ramp[::-1]])
            span = wave[:, start : start + weight.size]
            span += weight * (other - span)
        hiss = noise(wave.shape, rng)
        hiss *= np.float32(power_of_ten(self.artist.hiss_db / 20))
        # What 16-bit formats keep, so that every format begins with the same samples.
        heard = saturated(wave + hiss)
        whole = np.rint(heard * 2**15)
        return np.asarray(whole / 2**15, np.float32)


def _wave(sound: Sound, key: Tone, rate_hz: int, rng: Generator) -> Wave:
    """Play a note of some voice, pitch and length, or a drum, whose pitch is 0."""
    voice, pitch, length_s = key
    if pitch:
        return sound.tone(voice, pitch, length_s, rate_hz)
    return strike(voice, rate_hz, rng)


def plan_sections(duration_s: int, label: str, rng: Generator) -> tuple[Section, ...]:
    """Plant one section of 14-20 s in another quadrant, or two of 10-12 s: less than half of the
    track."""
    planted_s = round(duration_s * rng.uniform(0.34, 0.42))
    count = 1 if planted_s <= 20 else 2
    length_s = planted_s // count
    stretch_s = duration_s // count
    others = [quadrant for quadrant in QUADRANTS if quadrant != label]
    end_s = 0
    sections = []
    for number in range(count):
        latest_s = stretch_s - length_s - 2
        start_s = number * stretch_s + int(rng.integers(3, latest_s))
        other = str(rng.choice(others))
        sections.append((end_s, start_s, label))
        end_s = start_s + length_s
        sections.append((start_s, end_s, other))
    sections.append((end_s, duration_s, label))
    return tuple(sections)


def plan_tracks(tracks: int, seed: int) -> list[Track]:
    """Balance quadrants over artists and formats, and plant sections in a random 40 % of the
    tracks."""
    rng = np.random.default_rng([seed, 0])
    quadrants = list(QUADRANTS)
    count = max(1, tracks // len(quadrants))
    artists = [_artist(rng) for _ in range(count)]
    planted = rng.permutation(tracks) < round(PLANTED_SHARE * tracks)
    plan = []
    for index in range(tracks):
        row, column = divmod(index, len(quadrants))
        artist = row % len(artists)
        label = quadrants[column]
        duration_s = int(rng.triangular(40, 44, 60))
        tonic = int(rng.integers(12))
        sections: tuple[Section, ...] = ((0, duration_s, label),)
        if planted[index]:
            sections = plan_sections(duration_s, label, rng)
        number = index + 1
        format = FORMATS[(row + 4 * column) % len(FORMATS)]
        track = Track(
            track_id=f"track{number:03d}",
            group_id=f"artist{artist + 1:02d}",
            artist=artists[artist],
            label=label,
            duration_s=duration_s,
            sections=sections,
            tonic=tonic,
            format=format,
            seed=(seed, number),
        )
        plan.append(track)
    return plan


def _artist(rng: Generator) -> Sound:
    """Draw the habits of an artist."""
    habits = {}
    for field in dataclasses.fields(Sound):
        if field.metadata:
            low, high = field.metadata["bounds"]
            habits[field.name] = rng.uniform(low, high)
    return Sound(**habits)


def encode(wave: Wave, suffix: str, rate_hz: int) -> bytes:
    """Encode [C, T]. The same samples give the same bytes, but for the random stream number of Ogg
    Vorbis."""
    target = io.BytesIO()
    channels = len(wave)
    if suffix not in AV_CODECS:
        with soundfile.SoundFile(target, "w", rate_hz, channels, format=suffix) as file:
            for start in range(0, wave.shape[1], LIBSNDFILE_SAMPLES):
                samples = wave[:, start : start + LIBSNDFILE_SAMPLES]
                file.write(samples.T)
        return target.getvalue()
    container, codec, options = AV_CODECS[suffix]
    with av.open(target, "w", format=container, options={"fflags": "bitexact"}) as output:
        layout = "mono" if channels == 1 else "stereo"
        stream: Any = output.add_stream(codec, rate_hz, layout=layout)
        stream.bit_rate = 48_000 * channels
        stream.options = options
        planes = np.ascontiguousarray(wave)
        frame = av.AudioFrame.from_ndarray(planes, "fltp", stream.layout.name)
        frame.sample_rate = rate_hz
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))  # what the encoder has kept so far
    return target.getvalue()


def replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a rerun after a kill, never meets half of it."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def encoded(track: Track) -> bytes:
    wave = track.synthesize()
    return encode(wave, track.format.suffix, track.format.rate_hz)


def write_new(path: Path, content: Callable[[], bytes]) -> None:
    """Write a file unless it is there: one that is written again would look changed to the next
    run."""
    if not path.exists():
        replace(path, content())


def write_broken(audio: Path, seed: int) -> list[list[object]]:
    """Write what catalogs are never without; return its rows."""
    (planned,) = plan_tracks(1, seed)
    track = dataclasses.replace(planned, seed=(seed, 0))
    rate_hz = 22_050
    silence = np.zeros((1, 20 * rate_hz), np.float32)

    def page() -> bytes:
        return b"404 Not Found: the download saved this page in place of the music.\n" * 20

    def cut() -> bytes:
        whole = encode(track.synthesize(), "flac", rate_hz)
        return whole[: len(whole) // 2]

    def silent() -> bytes:
        return encode(silence, "wav", rate_hz)

    contents = {"broken-text.mp3": page, "broken-cut.flac": cut, "broken-silent.wav": silent}
    for name, content in contents.items():
        write_new(audio / name, content)
    rows: list[list[object]] = []
    rows.append(["broken-text", audio / "broken-text.mp3", "Q4", track.group_id, ""])
    cut_file = audio / "broken-cut.flac"
    rows.append(["broken-cut", cut_file, track.label, track.group_id, track.duration_s])
    rows.append(["broken-silent", audio / "broken-silent.wav", "Q3", track.group_id, 20])
    # Nothing is written for this one.
    rows.append(["broken-missing", audio / "broken-missing.ogg", "Q2", track.group_id, 45])
    return rows


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
    root = Path(folder).absolute()
    audio = root / "audio"
    plan = plan_tracks(tracks, seed)
    audio.mkdir(parents=True, exist_ok=True)
    paths = [audio / track.file_name for track in plan]
    contents = [partial(encoded, track) for track in plan]
    # Threads do: NumPy and FFmpeg let others run while they compute.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        written = pool.map(write_new, paths, contents)
        for done, _ in enumerate(written, 1):
            if progress:
                progress(done, tracks)
    rows: list[list[object]] = []
    sections = []
    for track, path in zip(plan, paths, strict=True):
        rows.append([track.track_id, path, track.label, track.group_id, track.duration_s])
        sections += [(track.track_id, *section) for section in track.sections]
    rows += write_broken(audio, seed)
    catalog = pd.DataFrame(rows, columns=["track_id", "uri", "label", "group_id", "expected_s"])
    truth = pd.DataFrame(sections, columns=["track_id", "start_s", "end_s", "true_label"])
    # The catalog last: where it is, all that it names is there.
    for name, table in (("truth.csv", truth), ("catalog.csv", catalog)):
        text = table.to_csv(index=False)
        replace(root / name, text.encode())
    planted = [len(track.planted) for track in plan if track.planted]
    return DemoCatalog(
        catalog=root / "catalog.csv",
        truth=root / "truth.csv",
        tracks=tracks,
        planted_tracks=len(planted),
        planted_sections=sum(planted),
    )
