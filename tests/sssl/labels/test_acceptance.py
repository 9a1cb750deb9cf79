import numpy as np
import pytest

from schemas.summaries import Guesses, LabelsSummary, ScoresSummary
from sssl.errors import ConfigError
from sssl.labels.acceptance import JudgeConfig, decide, round_row, unsplit_row
from sssl.labels.comparison import Change, Comparison, HeldOutChange, Interval, JudgedTracks
from sssl.labels.split import SplitSummary
from sssl.store.rounds import verdict_of

CLASSES = ("a", "b")
DEFAULTS = JudgeConfig()


def found(loss, accuracy=(0.0, 0.02), tracks=40):
    return Comparison(tracks, 14, Change(*loss), Change(*accuracy))


def test_a_loss_that_surely_fell_is_accepted_and_one_that_surely_rose_keeps_the_parent():
    assert decide(found((-0.03, 0.02)), DEFAULTS)[0] == "accepted"
    assert decide(found((0.03, 0.02)), DEFAULTS)[0] == "kept"


@pytest.mark.parametrize("loss", [-0.019, 0.0, 0.019])
def test_in_between_it_is_undecided(loss):
    assert decide(found((loss, 0.02)), DEFAULTS)[0] == "undecided"


def test_how_sure_it_has_to_be_is_a_setting():
    assert decide(found((-0.03, 0.02)), JudgeConfig(decisive_z=2))[0] == "undecided"
    assert decide(found((-0.01, 0.02)), JudgeConfig(decisive_z=0))[0] == "accepted"


def test_a_fall_of_one_track_decides_nothing():
    """One of 40 tracks more is wrong; the loss fell."""
    assert decide(found((-0.03, 0.02), accuracy=(-1 / 40, 0.025)), DEFAULTS)[0] == "accepted"


def test_an_accuracy_that_surely_fell_is_a_veto_only_where_there_are_enough_tracks():
    fell = {"loss": (-0.03, 0.02), "accuracy": (-0.1, 0.04)}
    assert decide(found(**fell, tracks=59), DEFAULTS)[0] == "accepted"
    verdict, reason = decide(found(**fell, tracks=60), DEFAULTS)
    assert (verdict, reason.split(":")[0]) == ("kept", "its accuracy fell")
    not_surely = found((-0.03, 0.02), accuracy=(-0.07, 0.04), tracks=60)
    assert decide(not_surely, DEFAULTS)[0] == "accepted"


def test_without_enough_groups_nothing_is_decided_unless_every_round_is_accepted():
    verdict, reason = decide(None, DEFAULTS)
    assert verdict == "undecided"
    assert "fewer than 6 groups of labelled tracks" in reason
    assert decide(None, JudgeConfig(accept_all=True))[0] == "accepted"
    assert decide(found((9.0, 0.1)), JudgeConfig(accept_all=True)) == (
        "accepted",
        "every round is, without a test (accept_all)",
    )


def test_reasons_say_what_they_go_by():
    said = decide(found((-0.0523, 0.0211), accuracy=(0.0312, 0.0241)), DEFAULTS)[1]
    assert (
        said
        == "its log loss fell: -0.052 ± 0.021 nats per track, accuracy +3.1 ± 2.4 points (40 tracks"
        " of 14 groups)"
    )


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [("interval_level", 95, "a share between 0 and 1"), ("decisive_z", -1, "0 or more")],
)
def test_settings_that_make_no_sense_are_refused(flag, value, expected):
    with pytest.raises(
        ConfigError, match=f"--{flag.replace('_', '-')} {value}: expected {expected}"
    ):
        JudgeConfig(**{flag: value})


def test_what_both_models_make_of_tracks_is_counted_like_scores():
    label, group = np.array([0, 1, 1]), np.arange(3)
    before, after = (
        np.array([[0.9, 0.1], [0.6, 0.4], [0.9, 0.1]]),
        np.array([[0.4, 0.6], [0.3, 0.7], [0.2, 0.8]]),
    )
    tracks = JudgedTracks(label, group, np.array([True, True, False]), before, after)
    guesses = Guesses(classes=CLASSES, confusions=tracks.confusions(tracks.both, CLASSES))
    assert guesses.confusion("test").tolist() == [[1, 0], [0, 1]]
    assert guesses.confusion("train").tolist() == [[0, 0], [1, 0]]


CONFUSIONS = {"test": {"a": {"a": 3, "b": 1}}, "train": {"b": {"b": 2}}}
SCORES = ScoresSummary(classes=CLASSES, confusions=CONFUSIONS, losses={"test": 2.0})
LABELS = LabelsSummary(confident=8, noisy=2, relabelled=1)
UNSPLIT = LabelsSummary(confident=10)
NO_SPLIT = SplitSummary()


def test_a_round_row_is_made_of_both_summaries_and_the_comparison():
    row = round_row(0, None, "m", SCORES, LABELS, NO_SPLIT, None, None, DEFAULTS)
    assert (row.accepted, row.verdict, row.reason, row.parent_round) == (
        True,
        "accepted",
        "warm-up",
        None,
    )
    assert row.heldout_tracks == 4
    assert row.heldout_accuracy == pytest.approx(0.75)
    assert row.heldout_loss == pytest.approx(0.5)
    assert row.train_accuracy == pytest.approx(1.0)
    assert (row.confident, row.noisy, row.relabelled, row.locked) == (8, 2, 1, 0)
    assert (row.heldout_groups, row.heldout_accuracy_change, row.heldout_loss_change_low) == (
        None,
        None,
        None,
    )
    assert (row.judged_tracks, row.log_loss_change_z) == (None, None)

    held_out = HeldOutChange(3, Interval(-0.25, -0.6, 0.1), Interval(0.2, -0.1, 0.5))
    row = round_row(1, row, "n", SCORES, LABELS, NO_SPLIT, found((0.3, 0.1)), held_out, DEFAULTS)
    assert (row.accepted, row.verdict, row.parent_round, row.heldout_groups) == (
        False,
        "kept",
        0,
        3,
    )
    changes = [getattr(row, f"heldout_accuracy_change{end}") for end in ("_low", "", "_high")]
    assert changes == [-0.6, -0.25, 0.1]
    changes = [getattr(row, f"heldout_loss_change{end}") for end in ("_low", "", "_high")]
    assert changes == [-0.1, 0.2, 0.5]
    assert (row.judged_tracks, row.judged_groups) == (40, 14)
    assert (row.log_loss_change, row.log_loss_change_error) == (0.3, 0.1)
    assert row.log_loss_change_z == pytest.approx(3)
    assert (row.accuracy_change, row.accuracy_change_error) == (0.0, 0.02)


def test_an_undecided_round_is_not_accepted_so_the_next_one_starts_from_its_parent():
    warm_up = round_row(0, None, "m", SCORES, LABELS, NO_SPLIT, None, None, DEFAULTS)
    row = round_row(1, warm_up, "n", SCORES, LABELS, NO_SPLIT, found((0.0, 0.1)), None, DEFAULTS)
    assert (row.accepted, row.verdict) == (False, "undecided")


def test_a_round_with_nothing_to_split_keeps_the_parent_s_model_and_numbers():
    warm_up = round_row(0, None, "m", SCORES, UNSPLIT, NO_SPLIT, None, None, DEFAULTS)
    parent = round_row(
        1, warm_up, "n", SCORES, UNSPLIT, NO_SPLIT, found((-0.3, 0.1)), None, DEFAULTS
    )
    row = unsplit_row(2, parent, UNSPLIT, NO_SPLIT)
    assert (row.round, row.accepted, verdict_of(row), row.parent_round, row.model_id) == (
        2,
        False,
        "kept",
        1,
        "n",
    )
    assert row.heldout_accuracy == parent.heldout_accuracy
    assert row.log_loss_change is None
    assert "nothing to split" in row.reason
