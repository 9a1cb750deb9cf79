"""The demo catalog: what is planted is planted, what is promised is on disk."""

import contextlib
import csv
import dataclasses
import hashlib
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy._core import _multiarray_umath as umath

from sssl.datasets import pieces
from sssl.datasets import synthetic as demo

HERE = str(Path(__file__).parent)
TRACKS = 8
REPEATED = ("track001.wav", "track004.m4a", "track005.mp3", "track006.opus", "track008.flac")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return demo.make_catalog(tmp_path_factory.mktemp("demo"), tracks=TRACKS)


@pytest.fixture(scope="module")
def catalog(made):
    return {row["track_id"]: row for row in read_rows(made.catalog)}


@pytest.fixture(scope="module")
def truth(made):
    sections = defaultdict(list)
    for row in read_rows(made.truth):
        sections[row["track_id"]].append(
            (int(row["start_s"]), int(row["end_s"]), row["true_label"])
        )
    return dict(sections)


@pytest.fixture(scope="module")
def decoded(catalog, truth):
    return {track_id: decode(catalog[track_id]["uri"]) for track_id in truth}


def digest_of_samples():
    """Digest the samples of three tracks: loud and soft ones, with and without a planted
    section."""
    digest = hashlib.sha256()
    for track in demo.plan_tracks(TRACKS, seed=0)[:3]:
        digest.update(track.synthesize().astype("<f4").tobytes())
    return digest.hexdigest()


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def decode(path):
    """Decode to codec, sample rate and samples [C, T]; up to the damage, if there is any."""
    frames = []
    with av.open(str(path)) as container, contextlib.suppress(av.error.InvalidDataError):
        stream = container.streams.audio[0]
        codec, rate_hz = stream.codec_context.codec.canonical_name, stream.rate
        resampler = av.AudioResampler(format="fltp")
        for frame in container.decode(stream):
            frames += [planar.to_ndarray() for planar in resampler.resample(frame)]
    return codec, rate_hz, np.concatenate(frames, axis=1)


def seconds_by_quadrant(sections):
    seconds = defaultdict(int)
    for start_s, end_s, quadrant in sections:
        seconds[quadrant] += end_s - start_s
    return seconds


def contradicting_share(plan):
    planted_s = sum(end_s - start_s for track in plan for start_s, end_s, _ in track.planted)
    return planted_s / sum(track.duration_s for track in plan)


def test_label_is_the_quadrant_of_most_of_the_track(catalog, truth):
    for track_id, sections in truth.items():
        seconds = seconds_by_quadrant(sections)
        assert seconds[catalog[track_id]["label"]] > 0.5 * sum(seconds.values())


def test_truth_covers_each_track_without_gap_or_overlap(catalog, truth):
    for track_id, sections in truth.items():
        starts_s, ends_s, _ = zip(*sections, strict=True)
        assert (0, *ends_s) == (*starts_s, int(catalog[track_id]["expected_s"]))


def test_truth_is_known_of_each_track_that_is_not_broken(catalog, truth):
    assert set(catalog) - set(truth) == {
        "broken-text",
        "broken-cut",
        "broken-silent",
        "broken-missing",
    }


def test_files_last_as_long_as_the_catalog_says(catalog, decoded):
    for track_id, (_, rate_hz, wave) in decoded.items():
        # Lossy codecs add up to a few frames of padding.
        assert wave.shape[1] / rate_hz == pytest.approx(
            int(catalog[track_id]["expected_s"]), abs=0.1
        )


def test_music_is_audible_and_not_clipped(decoded):
    for _, _, wave in decoded.values():
        assert -40 < 10 * np.log10(np.mean(wave**2)) < -8
        assert np.mean(np.abs(wave) > 0.99) < 1e-3


def test_at_least_five_codecs_at_several_rates_in_mono_and_stereo(decoded):
    codecs, rates_hz, waves = zip(*decoded.values(), strict=True)
    assert len(set(codecs)) >= 5
    assert len(set(rates_hz)) >= 3
    assert {len(wave) for wave in waves} == {1, 2}


def test_catalog_names_files_by_absolute_path(catalog):
    assert all(Path(row["uri"]).is_absolute() for row in catalog.values())


def test_result_counts_what_truth_contradicts(made, catalog, truth):
    planted = [
        sum(quadrant != catalog[track_id]["label"] for _, _, quadrant in sections)
        for track_id, sections in truth.items()
    ]
    assert made.tracks == TRACKS
    assert (made.planted_tracks, made.planted_sections) == (np.count_nonzero(planted), sum(planted))


def test_text_in_place_of_music_has_no_audio_stream(catalog):
    with pytest.raises(av.error.InvalidDataError):
        av.open(catalog["broken-text"]["uri"])


def test_cut_file_holds_less_than_the_catalog_promises(catalog):
    expected_s = int(catalog["broken-cut"]["expected_s"])
    _, rate_hz, wave = decode(catalog["broken-cut"]["uri"])
    assert 0.2 * expected_s < wave.shape[1] / rate_hz < 0.8 * expected_s


def test_silent_file_is_as_long_as_promised(catalog):
    wave, rate_hz = soundfile.read(catalog["broken-silent"]["uri"])
    assert not wave.any()
    assert len(wave) / rate_hz == int(catalog["broken-silent"]["expected_s"])


def test_missing_file_is_missing(catalog):
    assert not Path(catalog["broken-missing"]["uri"]).exists()


def test_same_seed_gives_the_same_bytes(made):
    plan = {track.track_id: track for track in demo.plan_tracks(TRACKS, seed=0)}
    for name in REPEATED:
        track = plan[name.partition(".")[0]]
        again = demo.encode(track.synthesize(), *track.format[:2])
        assert again == (made.catalog.parent / "audio" / name).read_bytes()


def test_samples_do_not_depend_on_the_processor():
    # What NumPy computes differently on an older processor: sums, powers, exponentials.
    features = umath.__cpu_features__
    newer = " ".join(name for name in umath.__cpu_dispatch__ if features[name])
    print_digest = "import test_synthetic as test; print(test.digest_of_samples())"
    found = subprocess.run(
        [sys.executable, "-c", print_digest],
        env=os.environ
        | {"NPY_DISABLE_CPU_FEATURES": newer, "PYTHONPATH": os.pathsep.join([*sys.path, HERE])},
        capture_output=True,
        check=True,
        text=True,
    )
    assert found.stdout.strip() == digest_of_samples()


def test_samples_are_the_same_everywhere():
    assert digest_of_samples() == "d0d69ef5db507c7716553e687dba00343d2fdf3c56bfa123544d505a39f8b92a"


def test_rerun_over_an_unfinished_attempt_gives_the_same_catalog(tmp_path):
    first = demo.make_catalog(tmp_path, tracks=2)
    promised = first.catalog.read_bytes(), first.truth.read_bytes()
    kept, lost = sorted((tmp_path / "audio").glob("track*"))
    written = kept.stat().st_mtime_ns
    first.catalog.unlink()
    lost.rename(lost.with_name(lost.name + ".part"))
    again = demo.make_catalog(tmp_path, tracks=2)
    assert (again.catalog.read_bytes(), again.truth.read_bytes()) == promised
    assert kept.stat().st_mtime_ns == written
    assert lost.exists()
    assert not list((tmp_path / "audio").glob("*.part"))


def test_progress_is_told_after_each_track(tmp_path, monkeypatch):
    monkeypatch.setattr(
        demo.Track, "synthesize", lambda track: np.zeros((track.format[2], 48_000), np.float32)
    )
    seen = []
    demo.make_catalog(tmp_path, tracks=5, progress=lambda done, tracks: seen.append((done, tracks)))
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_interrupted_attempt_leaves_no_catalog(tmp_path, monkeypatch):
    def stop(audio, seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "write_broken", stop)
    with pytest.raises(KeyboardInterrupt):
        demo.make_catalog(tmp_path, tracks=1)
    assert not (tmp_path / "catalog.csv").exists()


def test_another_seed_gives_another_catalog():
    assert demo.plan_tracks(TRACKS, seed=0) != demo.plan_tracks(TRACKS, seed=1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tracks", [8, 24, demo.TRACKS])
def test_tenth_to_fifth_of_all_seconds_contradicts(tracks, seed):
    assert 0.1 < contradicting_share(demo.plan_tracks(tracks, seed)) < 0.2


def test_planted_sections_last_10_to_20_seconds():
    plan = demo.plan_tracks(280, seed=0)
    assert {len(track.planted) for track in plan} == {0, 1, 2}
    assert all(10 <= end_s - start_s <= 20 for track in plan for start_s, end_s, _ in track.planted)
    assert all(
        0 < start_s < end_s < track.duration_s
        for track in plan
        for start_s, end_s, _ in track.planted
    )


def test_full_catalog_is_balanced_over_quadrants_artists_and_formats():
    plan = demo.plan_tracks(demo.TRACKS, seed=0)
    for quadrant in demo.QUADRANTS:
        tracks = [track for track in plan if track.label == quadrant]
        formats = Counter(track.format for track in tracks)
        assert len(tracks) == len({track.group_id for track in tracks}) == 28
        assert formats == dict.fromkeys(demo.FORMATS, 2)
    assert all(40 <= track.duration_s <= 60 for track in plan)


def test_artist_has_one_timbre_in_several_quadrants():
    tracks_of = defaultdict(list)
    for track in demo.plan_tracks(demo.TRACKS, seed=0):
        tracks_of[track.group_id].append(track)
    assert len({tracks[0].artist for tracks in tracks_of.values()}) == 28
    for tracks in tracks_of.values():
        assert len({track.label for track in tracks}) >= 3
        assert len({track.artist for track in tracks}) == 1


def test_moods_differ_in_tempo_and_mode():
    rng = np.random.default_rng(0)
    artist = demo.plan_tracks(1, seed=0)[0].artist
    moods = {
        quadrant: [artist.in_mood(quadrant, rng) for _ in range(200)] for quadrant in demo.QUADRANTS
    }
    bpm = {quadrant: np.mean([mood.bpm for mood in drawn]) for quadrant, drawn in moods.items()}
    assert min(bpm["Q1"], bpm["Q2"]) > 1.3 * max(bpm["Q3"], bpm["Q4"])
    assert {mood.mode for mood in moods["Q1"] + moods["Q4"]} == {"major"}
    assert {mood.mode for mood in moods["Q2"] + moods["Q3"]} == {"minor", "tense"}


def test_voices_move_by_the_nearest_way():
    c_major = [60, 64, 67]
    assert pieces.lead_voices(c_major, [9, 12, 16], center=62) == [
        60,
        64,
        69,
    ]  # A minor keeps C and E


def test_note_sounds_at_its_pitch():
    rate_hz = 22_050
    artist = demo.plan_tracks(1, seed=0)[0].artist
    wave = artist.tone("lead", 69, 1.0, rate_hz)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.size)))
    harmonic_hz = np.argmax(spectrum) * rate_hz / wave.size
    assert harmonic_hz / 440 == pytest.approx(round(harmonic_hz / 440), abs=0.01)


def test_planted_section_sounds_between_its_bounds_only():
    track = next(
        track for track in demo.plan_tracks(demo.TRACKS, seed=0) if len(track.planted) == 1
    )
    start_s, end_s, _ = track.planted[0]
    whole = dataclasses.replace(track, sections=((0, track.duration_s, track.label),))
    mixed, plain = track.synthesize(), whole.synthesize()
    rate_hz = track.format[1]
    # The hiss is drawn after the planted music and differs throughout; it is far below the music.
    differs = np.abs(mixed - plain).max(axis=0) > 10 ** (track.artist.hiss_db / 20) * 12
    differs_s = np.flatnonzero(differs) / rate_hz
    assert start_s - demo.FADE_S <= differs_s.min() <= start_s + 1
    assert end_s - 1 <= differs_s.max() <= end_s + demo.FADE_S
