"""What is measured: synthesized tracks of unequal length in each codec, at full rate in stereo, and
a very long one.

python material.py FOLDER TRACKS MINUTES REPEAT LONG_MINUTES CODEC...
"""

import csv
import dataclasses
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr
from audio_files import write_audio

from sssl.datasets import synthetic as demo

RATE_HZ = 44_100
OPUS_HZ = 48_000
SHORT_S = 180


def make(folder, tracks, minutes, repeat, long_minutes, codecs):
    """Write what is missing of the audio, and the catalogs: `{codec}-one.csv` with a track,
    `{codec}-all.csv` with all, `repeat` times each. `material.json` has their seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    seconds = {}
    lengths_s = [round(60 * minutes * share) for share in np.linspace(0.75, 1.25, tracks)]
    for track, length_s in zip(demo.plan_tracks(tracks, seed=1), lengths_s, strict=True):
        write_tracks(folder, track, length_s, codecs)
    for codec in codecs:
        files = [
            (track_path(folder, f"track{n + 1:03d}", s, codec), s) for n, s in enumerate(lengths_s)
        ]
        seconds[f"{codec}-one"] = write_catalog(folder / f"{codec}-one.csv", files[:1])
        seconds[f"{codec}-all"] = write_catalog(folder / f"{codec}-all.csv", files * repeat)
    long_s = round(60 * long_minutes)
    for name, length_s in {"short": min(SHORT_S, long_s), "long": long_s}.items():
        path = write_long(folder, length_s)
        seconds[name] = write_catalog(folder / f"{name}.csv", [(path, length_s)])
    (folder / "material.json").write_text(json.dumps(seconds, indent=1))


def write_tracks(folder, track, length_s, codecs):
    missing = [
        codec
        for codec in codecs
        if not track_path(folder, track.track_id, length_s, codec).exists()
    ]
    if not missing:
        return
    wave = synthesize(track, length_s)
    for codec in missing:
        rate_hz = OPUS_HZ if codec == "opus" else RATE_HZ
        resampled = wave if rate_hz == RATE_HZ else soxr.resample(wave, RATE_HZ, rate_hz)
        path = track_path(folder, track.track_id, length_s, codec)
        part = path.with_stem(
            f"{path.stem}-part"
        )  # a bench that is stopped leaves no half of a track behind
        write_audio(part, resampled, rate_hz).rename(path)


def synthesize(track, length_s):
    """Play a track of the demo's catalog for longer and in stereo: [T, C]."""
    sections = ((0, length_s, track.label),)
    longer = dataclasses.replace(
        track, duration_s=length_s, sections=sections, format=demo.Format("wav", RATE_HZ, 2)
    )
    return longer.synthesize().T


def write_long(folder, length_s):
    """Repeat a piece, encoding as it goes: three hours of samples would not fit."""
    path = folder / f"long-{length_s}.ogg"
    if not path.exists():
        part = path.with_stem("part")
        wave = synthesize(demo.plan_tracks(1, seed=2)[0], min(SHORT_S, length_s))
        starts = itertools.chain.from_iterable(itertools.repeat(range(0, len(wave), 4096)))
        with soundfile.SoundFile(part, "w", RATE_HZ, 2, format="OGG", subtype="VORBIS") as file:
            while (missing := length_s * RATE_HZ - file.frames) > 0:
                file.write(wave[(start := next(starts)) : start + min(4096, missing)])
        part.rename(path)
    return path


def track_path(folder, track_id, length_s, codec):
    return folder / f"{track_id}-{length_s}.{codec}"


def write_catalog(path, files):
    """Write a catalog of (path, seconds) and return its seconds."""
    with path.open("w", newline="") as file:
        rows = [(f"{number:04d}-{audio.stem}", audio) for number, (audio, _) in enumerate(files)]
        csv.writer(file).writerows([("track_id", "uri"), *rows])
    return sum(length_s for _, length_s in files)


if __name__ == "__main__":
    folder, tracks, minutes, repeat, long_minutes, *codecs = sys.argv[1:]
    make(Path(folder), int(tracks), float(minutes), int(repeat), float(long_minutes), codecs)
