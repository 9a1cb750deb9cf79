import numpy as np
import pytest

from sssl.judge import JudgeConfig, round_row, unsplit_row, verdict
from sssl.metrics import Quality, confusion, quality


def test_quality_of_a_known_confusion():
    counts = confusion(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0]), 3)
    assert counts.tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    found = quality(counts)
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.macro_f1 == pytest.approx(np.mean([4 / 6, 4 / 5, 0]))


def test_a_class_that_never_occurs_does_not_lower_macro_f1():
    assert quality(np.array([[3.0, 0], [0, 0]])).macro_f1 == 1.0


def test_without_tracks_there_is_no_quality():
    assert quality(np.zeros((2, 2))) == Quality(0, None, None)


@pytest.mark.parametrize(
    ("before", "after", "max_drop", "accepted"),
    [
        (0.5, 0.6, 0.0, True),
        (0.5, 0.5, 0.0, True),
        (0.5, 0.49, 0.0, False),
        (0.5, 0.49, 0.02, True),
        (0.5, 0.1, None, True),
    ],
)
def test_a_round_is_rejected_when_held_out_tracks_suffer(before, after, max_drop, accepted):
    found, reason = verdict(Quality(10, after, after), Quality(10, before, before), JudgeConfig(max_drop))
    assert found is accepted
    assert reason


def test_without_held_out_tracks_a_round_is_accepted_and_says_so():
    accepted, reason = verdict(Quality(0, None, None), Quality(0, None, None), JudgeConfig())
    assert accepted
    assert "no held-out track" in reason


def test_a_round_row_is_made_of_both_summaries():
    scores = {"confusion/test/a/a": 3, "confusion/test/a/b": 1, "confusion/train/b/b": 2, "loss/test": 2.0}
    labels = {"confident": 8, "noisy": 2, "relabelled": 1, "components": 1, "mixture": []}
    row = round_row(0, None, "m", scores, labels, ("a", "b"), JudgeConfig())
    assert (row.accepted, row.parent_round, row.heldout_tracks) == (True, None, 4)
    assert row.heldout_accuracy == pytest.approx(0.75)
    assert row.heldout_loss == pytest.approx(0.5)
    assert row.train_accuracy == pytest.approx(1.0)
    assert (row.confident, row.noisy, row.relabelled, row.locked) == (8, 2, 1, 0)


def test_a_round_with_nothing_to_split_keeps_the_parent_s_model_and_numbers():
    scores = {"confusion/test/a/a": 3, "confusion/test/a/b": 1}
    parent = round_row(0, None, "m", scores, {"confident": 10}, ("a", "b"), JudgeConfig())
    row = unsplit_row(1, parent, {"confident": 10, "components": 1})
    assert (row.round, row.accepted, row.parent_round, row.model_id) == (1, False, 0, "m")
    assert row.heldout_accuracy == parent.heldout_accuracy
    assert "nothing to split" in row.reason
