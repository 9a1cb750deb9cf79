import re
from collections import Counter

import pyarrow as pa
import pytest
from rows import a_track

from pipelines.commands.plan import decoding, labels_of, scoring, tell_missing
from pipelines.stages.learning import Decision
from schemas import Catalog, to_arrow
from sssl.audio.mel import MelConfig
from sssl.catalog.plan import AgainConfig, Cause, nothing_in_common


def test_a_plan_says_what_is_scored():
    learns = Decision(True, "--learn always")
    assert scoring(10, 2, learns) == "each model that is trained scores all 10 tracks"
    never = Decision(False, "--learn never")
    assert scoring(10, 2, never).startswith("the published model scores the 2 that are decoded")


def test_a_plan_says_how_many_labels_and_groups_each_class_has():
    tracks = to_arrow(
        Catalog,
        [
            a_track("a", label="Q1", group_id="x"),
            a_track("b", label="Q1", group_id="x"),
            a_track("c", label="Q2", group_id="x"),
            a_track("d", label="Q2", group_id="y"),
            a_track("e", label="Q3", group_id="y"),
            a_track("f", label=None, group_id="z"),
        ],
    )
    (by_class,) = labels_of(tracks, ("Q1", "Q2", "Q3", "Q4"))
    assert by_class == (
        "5 of 6 have a label: Q1 2 (1 group), Q2 2 (2 groups), Q3 1 (1 group), Q4 0 (0 groups)"
    )


def test_a_plan_says_that_tracks_without_groups_are_groups_of_their_own():
    tracks = [a_track(name, label="Q1", group_id=name) for name in "abc"]
    by_class, no_groups = labels_of(to_arrow(Catalog, tracks), ("Q1",))
    assert by_class == "3 of 3 have a label: Q1 3"
    assert "each is a group of its own" in no_groups
    grouped = [a_track(name, label="Q1", group_id=f"of {name}") for name in "abc"]
    assert list(labels_of(to_arrow(Catalog, grouped), ("Q1",))) == [by_class]


def test_a_plan_says_about_how_long_decoding_takes_and_what_it_needs():
    known = pa.chunked_array([pa.array([1800.0, None, 5400.0], pa.float32())])
    said = decoding(120, known, MelConfig(), processes=2)
    assert said.startswith("decoding takes about ")
    minutes, gigabytes = map(float, re.findall(r"about (.*) min .* and about (.*) GB", said)[0])
    assert minutes == pytest.approx(120 * 8 / 2 / 60, rel=0.1)
    mels, frames = MelConfig().shape
    segments = 120 * 3600 / MelConfig().start_distance_s
    assert gigabytes == pytest.approx(segments * mels * frames / 1e9, rel=0.1)
    in_halves = decoding(120, known, MelConfig(stored_as="float16"), processes=2)
    (gigabytes,) = map(float, re.findall(r"and about (.*) GB", in_halves))
    assert gigabytes == pytest.approx(segments * mels * frames * 2 / 1e9, rel=0.1)
    assert "(120.0 h of audio)" in said
    unknown = decoding(15, pa.chunked_array([pa.nulls(3, pa.float32())]), MelConfig(), processes=1)
    assert "(1.0 h of audio, taken as 4 minutes each)" in unknown
    short = decoding(1, pa.chunked_array([pa.array([1.0], pa.float32())]), MelConfig(), processes=1)
    assert "takes less than 0.1 min on 1 core and less than 0.1 GB" in short


def test_a_plan_says_how_a_run_ends_that_finds_no_file(tmp_path):
    (tmp_path / "a.wav").touch()
    gone = [a_track(name, uri=f"gone/{name}.wav") for name in "bc"]
    told = []
    tell_missing(to_arrow(Catalog, gone), told.append)
    assert told[0] == "not found: 2 of 2 files looked for (b, c)"
    assert "exit code 3: is the working directory" in told[1]
    told.clear()
    there = a_track("a", uri=str(tmp_path / "a.wav"))
    tell_missing(to_arrow(Catalog, [there, *gone]), told.append)
    assert told == ["not found: 2 of 3 files looked for (b, c)"]


def test_what_was_moved_from_nowhere_is_told_with_a_uri_of_the_last_run():
    known = to_arrow(Catalog, [a_track("a", uri="https://ann:secret@host/a.wav?key=secret")])
    told = AgainConfig(moved="/mnt/old/=/mnt/new/").nothing_moved(known)
    assert told == (
        "--moved: no file of the last run begins with /mnt/old/; one of them is https://host/a.wav"
    )
    assert AgainConfig(moved="https://ann=/mnt/new/").nothing_moved(known) is None
    nothing = AgainConfig(moved="/mnt/old/=/mnt/new/").nothing_moved(known.slice(0, 0))
    assert nothing == "--moved: no file of the last run begins with /mnt/old/"


def test_a_catalog_that_shares_no_track_with_the_folder_is_named():
    assert "3 tracks" in nothing_in_common(Counter({Cause.NEW: 2, Cause.GONE: 3}))
    assert nothing_in_common(Counter({Cause.NEW: 2})) is None
    assert nothing_in_common(Counter({Cause.GONE: 3, Cause.UNCHANGED: 1})) is None
