import numpy as np
import pyarrow as pa
import pytest

from schemas import Catalog
from sssl.config import ConfigError
from sssl.consistency import band_moments, fit_track_model
from sssl.evidence import Evidence, EvidenceConfig, around_in_track, fit_evidence, sum_spread, track_numbers

BANDS = 8
BOTH = EvidenceConfig()


def track(track_id, split="train", locked=False):
    return Catalog(track_id, "", "Q1", split, track_id, 0, None, locked, 0, None)


def make_scores(losses):
    ids = [track_id for track_id, own in losses.items() for _ in own]
    return pa.table({"track_id": ids, "loss": pa.array(np.concatenate(list(losses.values())), from_pandas=True)})


def logits(seed, stretch=1, tracks=60, segments=24):
    """Losses by track: nine in ten segments around logit -2, in one in ten stretches around +2."""
    rng = np.random.default_rng(seed)
    losses = {}
    for t in range(tracks):
        wrong = np.repeat(rng.random(segments // stretch) < 0.1, stretch)
        losses[f"t{t}"] = np.logaddexp(0, rng.normal(-2 + 4 * wrong, 1.0))
    return losses


def fitted(losses, config=BOTH, levels=None):
    scores, tracks = make_scores(losses), [track(track_id) for track_id in losses]
    model = None if levels is None else fit_track_model(band_moments(levels, track_numbers(scores)))
    return fit_evidence(sum_spread(scores, levels, tracks, model), model, config), scores


def test_neighbours_speak_where_wrong_stretches_are_longer_than_a_segment():
    alone, _ = fitted(logits(0, stretch=1))
    stretches, _ = fitted(logits(0, stretch=6))
    assert alone.neighbours < 0.1
    assert stretches.neighbours > 0.5


def test_without_neighbours_and_track_model_the_loss_stays_as_it_is():
    evidence, scores = fitted(logits(0, stretch=6), EvidenceConfig(neighbours=False))
    loss, consistency = evidence.losses(scores, None)
    np.testing.assert_array_equal(loss, scores["loss"].to_numpy())
    assert np.isnan(consistency).all()


def test_a_segment_that_does_not_sound_like_its_track_gets_a_higher_loss():
    rng = np.random.default_rng(0)
    losses = logits(0)
    levels = np.repeat(rng.normal(-40, 8, (60, BANDS)), 24, axis=0) + rng.normal(0, 3, (60 * 24, BANDS))
    levels[5] = -20
    evidence, scores = fitted(losses, EvidenceConfig(neighbours=False), levels)
    loss, consistency = evidence.losses(scores, levels)
    own = scores["loss"].to_numpy()
    assert consistency[5] == consistency.min()
    assert loss[5] > own[5]
    # The scale stays that of the loss, so that thresholds keep their meaning.
    spread = [np.log(np.expm1(x)).std() for x in (own, loss)]
    assert 0.6 < spread[1] / spread[0] < 1.1


def test_model_and_sound_agree_only_where_they_see_the_same_wrong_segments():
    rng = np.random.default_rng(0)
    wrong = rng.random((60, 24)) < 0.1
    losses = {f"t{t}": np.logaddexp(0, rng.normal(-2 + 4 * own, 1.0)) for t, own in enumerate(wrong)}
    tracks = np.repeat(rng.normal(-40, 8, (60, BANDS)), 24, axis=0)
    strange = np.where(wrong.reshape(-1, 1), rng.normal(-40, 8, tracks.shape), tracks)
    elsewhere = np.where(rng.permuted(wrong, axis=1).reshape(-1, 1), rng.normal(-40, 8, tracks.shape), tracks)
    noise = rng.normal(0, 3, tracks.shape)
    seen, unseen = (fitted(losses, levels=levels + noise)[0].agreement for levels in (strange, elsewhere))
    assert seen > 0.4
    assert abs(unseen) < 0.15
    assert fitted(losses)[0].agreement is None


def test_what_is_missing_leaves_the_rest_to_speak():
    rng = np.random.default_rng(0)
    losses = logits(0) | {"single": np.array([3.0]), "unscored": np.array([0.1, np.nan, 0.1])}
    levels = rng.normal(-40, 8, (60 * 24 + 4, BANDS))
    evidence, scores = fitted(losses, EvidenceConfig(neighbours=True), levels)
    loss, consistency = evidence.losses(scores, levels)
    assert np.isnan(consistency[-4])
    assert loss[-4] == pytest.approx(3.0)
    assert np.isnan(loss[-2])
    assert np.isfinite(np.delete(loss, -2)).all()


def test_locked_and_held_out_tracks_say_nothing_about_the_scale():
    losses = logits(0)
    scores = make_scores(losses)
    others = [track(track_id, "test") for track_id in losses][:30]
    locked = [track(track_id, locked=True) for track_id in losses][30:]
    assert sum_spread(scores, None, others + locked, None).segments == 0
    assert fit_evidence(sum_spread(scores, None, others + locked, None), None, EvidenceConfig()) == Evidence()


def test_neighbours_are_those_of_the_same_track():
    values = np.array([[1.0], [2.0], [np.nan], [4.0], [10.0], [20.0], [5.0]])
    found = around_in_track(values, np.array([0, 0, 0, 0, 1, 1, 2]))
    np.testing.assert_allclose(found[:, 0], [2.0, 2.5, 7 / 3, 2.0, 20.0, 10.0, np.nan])


def test_a_share_of_all_is_refused():
    with pytest.raises(ConfigError, match=r"--consistency 1\.0: expected 0 to below 1"):
        EvidenceConfig(consistency=1.0)
