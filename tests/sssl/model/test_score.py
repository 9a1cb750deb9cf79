import numpy as np
import pyarrow as pa
import pytest
import torch
from rows import a_track

from sssl.audio.mel import MelConfig, in_db, in_steps
from sssl.model import networks
from sssl.model.ensemble import Model, ModelSpec
from sssl.model.score import posteriors
from sssl.model.scores import folds_of, scores_table, summarize_scores
from sssl.model.settings import ScoreConfig

CLASSES = ("Q1", "Q2")
SPEC = ModelSpec("cnn", CLASSES, MelConfig(), 2)


def track(track_id, label, split="train"):
    return a_track(track_id, label=label, split=split)


def log_mel(rows):
    return np.random.default_rng(0).normal(-30, 10, (rows, *SPEC.cut.shape)).astype(np.float16)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Model(SPEC, [SPEC.build().eval() for _ in range(2)])


def test_the_member_that_did_not_see_the_fold_scores(model):
    x, folds = log_mel(10), np.array([0, 1] * 5)
    found = posteriors(model, x, folds, ScoreConfig(), threads=1)
    for member in (0, 1):
        alone = (
            model.members[member](torch.from_numpy(x[folds == member]).float())
            .softmax(1)
            .detach()
            .numpy()
        )
        np.testing.assert_allclose(found[folds == member], alone, atol=1e-5)


def test_all_members_score_what_none_trained_on(model):
    x = log_mel(10)
    found = posteriors(model, x, np.full(10, -1), ScoreConfig(), threads=1)
    each = [posteriors(model, x, np.full(10, fold), ScoreConfig(), threads=1) for fold in (0, 1)]
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-6)


def test_bytes_and_half_precision_of_the_same_levels_get_the_same_scores(model):
    steps, folds = in_steps(log_mel(10)), np.arange(10) % 3 - 1
    levels = in_db(steps).astype(np.float16)  # which has all of them
    by_bytes, by_halves = (
        posteriors(model, x, folds, ScoreConfig(), threads=1) for x in (steps, levels)
    )
    np.testing.assert_array_equal(by_bytes, by_halves)


def test_what_a_network_takes_is_what_is_drawn():
    for stored in (np.arange(256, dtype=np.uint8), np.array([-100, -31.5, 12.25], np.float16)):
        taken = networks.in_db(torch.from_numpy(stored))
        assert taken.dtype == torch.float32
        np.testing.assert_array_equal(taken.numpy(), in_db(stored))


def test_only_train_tracks_are_left_to_one_member():
    tracks = [track("a", "Q1"), track("b", "Q1", "test"), track("c", None)]
    segments = pa.table({"track_id": ["a", "a", "b", "c"]})
    assert folds_of(segments, tracks, ScoreConfig()).tolist() == [0, 0, -1, -1]
    assert folds_of(segments, tracks, ScoreConfig(average_members=False)).tolist() == [0, 0, 0, 0]


def test_scores_do_not_depend_on_the_number_of_threads(model):
    x, folds = log_mel(50), np.arange(50) % 3
    one, three = (
        posteriors(model, x, folds, ScoreConfig(score_batch=8), threads=n) for n in (1, 3)
    )
    np.testing.assert_array_equal(one, three)


class Fussy(torch.nn.Module):
    """Fails on segments that hold the mark."""

    def __init__(self, member, mark):
        super().__init__()
        self.member, self.mark = member, mark

    def forward(self, x):
        if (x[:, 0, 0] == self.mark).any():
            raise RuntimeError("segment with the mark")
        return self.member(x)


def fussy(model, mark):
    return Model(model.spec, [Fussy(member, mark) for member in model.members])


def test_a_segment_that_the_model_fails_on_costs_one_row(model):
    x, folds = log_mel(96), np.zeros(96, int)
    x[41, 0, 0] = 7
    expected = posteriors(model, x, folds, ScoreConfig(), 2)
    found = posteriors(fussy(model, mark=7), x, folds, ScoreConfig(), 2)
    others = np.arange(96) != 41
    assert np.isnan(found[41]).all()
    np.testing.assert_allclose(found[others], expected[others], atol=1e-6)


def test_a_segment_that_is_not_finite_costs_one_row(model):
    x = log_mel(96)
    x[41, 3, 5] = np.nan
    found = posteriors(model, x, np.zeros(96, int), ScoreConfig(), 2)
    assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [41]


def test_a_model_that_fails_on_every_segment_is_no_row_but_an_error(model):
    x = log_mel(8)
    x[:, 0, 0] = 7
    with pytest.raises(RuntimeError, match="segment with the mark"):
        posteriors(fussy(model, mark=7), x, np.zeros(8, int), ScoreConfig(), 1)


def test_views_average_rotations(model):
    x, folds = log_mel(4), np.zeros(4, int)
    half = np.roll(x, x.shape[2] // 2, axis=2)
    plain, rotated = (posteriors(model, v, folds, ScoreConfig(), 1) for v in (x, half))
    both = posteriors(model, x, folds, ScoreConfig(views=2), 1)
    np.testing.assert_allclose(both, (plain + rotated) / 2, atol=1e-6)


def segments(ids):
    return pa.table({"track_id": ids, "segment_index": pa.array(range(len(ids)), pa.int32())})


def test_a_posterior_that_is_not_finite_is_a_row_with_a_reason():
    p = np.array([[0.25, 0.75], [np.nan, 0.5]], np.float32)
    rows = scores_table(segments(["a", "a"]), p, [track("a", "Q1")], CLASSES, 1, "m").to_pylist()
    assert rows[0]["loss"] == pytest.approx(-np.log(0.25))
    assert (rows[0]["reason"], rows[1]["reason"]) == (None, "non-finite")
    assert rows[1]["probabilities"] is None
    assert rows[1]["loss"] is None


def test_a_track_without_a_label_has_no_loss():
    table = scores_table(
        segments(["a"]), np.array([[0.5, 0.5]], np.float32), [track("a", None)], CLASSES, 1, "m"
    )
    assert table["loss"].to_pylist() == [None]


def test_counts_judge_tracks_by_their_mean_posterior():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    tracks = [track("a", "Q1"), track("b", "Q1", "test"), track("c", None)]
    scores = scores_table(segments(["a", "a", "b", "c"]), p, tracks, CLASSES, 1, "m")
    found = summarize_scores(scores, tracks, CLASSES)
    assert found.confusion("train").tolist() == [[1, 0], [0, 0]]
    assert found.confusion("test").tolist() == [[0, 1], [0, 0]]
    assert found.losses["test"] == pytest.approx(-np.log(0.2))
