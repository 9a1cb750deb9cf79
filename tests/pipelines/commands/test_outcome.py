"""A run's last words say what came out, and why."""

import re
import shlex
import shutil

import numpy as np

from pipelines.cli import main
from pipelines.commands.outcome import abstentions, held_out_quality, outcome
from sssl.songs.threshold import Threshold
from sssl.store.folder import Store
from sssl.store.rounds import in_use
from sssl.store.sql import connect


def test_summary_says_what_the_threshold_is_and_what_shows_it():
    said = abstentions(
        2,
        Threshold(
            0.531, 0.8, left_out_tracks=89, tracks_above=88, right_above=82, precision_low=0.872
        ),
    )
    assert (
        said == "2 tracks, with a confidence below 0.53 or unlike anything labelled. "
        "Above it the label is right for 82 of 88 tracks left "
        "out of the fit, which shows a precision of 0.872 (--wanted-precision 0.8)"
    )


def test_summary_says_why_all_tracks_abstain():
    said = abstentions(
        113,
        Threshold(None, 0.8, left_out_tracks=89, tracks_above=0, right_above=0, precision_low=None),
    )
    assert said == "113 tracks: 89 tracks left out of the fit cannot show --wanted-precision 0.8"


def test_one_track_is_a_track():
    few = Threshold(None, 0.8, left_out_tracks=1, tracks_above=0, right_above=0, precision_low=None)
    assert (
        abstentions(1, few)
        == "1 track: 1 track left out of the fit cannot show --wanted-precision 0.8"
    )


def test_a_threshold_that_was_given_is_only_named():
    given = Threshold(
        0.5, None, left_out_tracks=89, tracks_above=80, right_above=70, precision_low=0.8
    )
    assert (
        abstentions(3, given) == "3 tracks, with a confidence below 0.5 or unlike anything labelled"
    )


def test_held_out_quality_comes_with_its_interval_and_the_usual_class():
    said = held_out_quality(np.array([[18, 2], [1, 19]]), usual=1, classes=("calm", "tense"))
    assert (
        said
        == "published label right for 0.925 of 40 (95 % interval 0.80 to 0.97), always tense for"
        " 0.500"
    )


def test_labels_that_are_no_better_than_the_usual_class_are_said_to_be():
    said = held_out_quality(np.array([[3, 1], [2, 2]]), usual=0, classes=("calm", "tense"))
    assert said.endswith(
        "always calm for 0.500, which does not show that the labels are better than that"
    )


def test_without_held_out_tracks_nothing_is_claimed():
    assert held_out_quality(np.zeros((2, 2)), 0, ("calm", "tense")).startswith(
        "none, so nothing says"
    )


def test_a_run_ends_with_what_came_out_and_what_to_do_next(finished):
    said = outcome(
        finished,
        finished.latest(),
        against_truth=None,
        remarks=["left out of music: hidden: 1 (.a)"],
    )
    assert "catalog           left out of music: hidden: 1 (.a)\n" in said
    rows = dict(re.split(r" {2,}", line, maxsplit=1) for line in said.splitlines() if line)
    songs, ledger = (finished.latest().get(table).rows for table in ("songs", "ledger"))
    assert rows["tracks labelled"] == f"{songs} of {ledger}"
    assert "not-audio 1" in rows["not clean"]
    has_later = in_use(finished, finished.latest()).last.round > 0
    assert "mean posterior for " in rows["held-out tracks"]
    assert ("after the warm-up for" in rows["held-out tracks"]) == has_later
    assert re.fullmatch(r"\d+ of \d+ segments of train tracks look wrong", rows["look wrong"])
    assert rows["report"].endswith("report.html")
    assert rows["correct by ear"] == f"sssl review --output {finished.root}"
    query = re.fullmatch(r'sssl sql --output (\S+) "(.*)"', rows["wrong passages"])[2]
    assert connect(finished, finished.latest()).sql(query).fetchall()


def test_commands_to_copy_hold_in_a_folder_with_a_blank(finished, tmp_path):
    output = Store.open(str(shutil.copytree(finished.root, tmp_path / "my music")))
    said = outcome(output, output.latest(), against_truth=None)
    rows = dict(re.split(r" {2,}", line, maxsplit=1) for line in said.splitlines() if line)
    assert shlex.split(rows["correct by ear"])[-1] == output.root
    assert shlex.split(rows["wrong passages"])[3] == output.root


def test_the_warm_up_is_not_compared_with_itself(finished, tmp_path):
    output = Store.open(str(shutil.copytree(finished.root, tmp_path / "out")))
    assert main(["rollback", "--output", output.root, "--round", "0"]) == 0
    said = outcome(output, output.latest(), against_truth=None)
    assert re.search(r"mean posterior for [01]\.\d+ of \d+ \(round 0\)\n", said)
    assert "after the warm-up for" not in said


def test_labels_that_cannot_be_learned_are_refused_before_anything_is_decoded(tmp_path, capsys):
    (tmp_path / "catalog.csv").write_text(
        "track_id,uri,label\na,a.wav,Q1\nb,b.wav,Q1\nc,c.wav,Q2\n"
    )
    assert (
        main(["run", "--catalog", str(tmp_path / "catalog.csv"), "--output", str(tmp_path / "out")])
        == 1
    )
    assert "class Q2 has a single usable track" in " ".join(capsys.readouterr().err.split())
    assert not list((tmp_path / "out").glob("segments*"))
