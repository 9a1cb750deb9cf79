import functools
import operator

import numpy as np
import pyarrow as pa
import pytest
from rows import a_track
from sklearn.metrics import roc_auc_score

from sssl.errors import ConfigError
from sssl.labels.consistency import fit_track_model, sound_moments
from sssl.labels.evidence import (
    Evidence,
    EvidenceConfig,
    Segments,
    Spread,
    around_in_track,
    beyond_others,
    fit_evidence,
    sum_losses,
    sum_spread,
)

NUMBERS, TRACKS, LENGTH = 8, 60, 24  # what a segment is known by, and tracks of so many segments
CLASSES = ("Q1", "Q2")
BOTH = EvidenceConfig()


def track(track_id, split="train", locked=False):
    return a_track(track_id, split=split, locked=locked)


def segments_of(log_odds, sound=None, tracks=None):
    """Segments by track, given the log odds against their label; NaN is a segment without a
    posterior."""
    ids = [track_id for track_id, own in log_odds.items() for _ in own]
    p = 1 / (1 + np.exp(np.concatenate(list(log_odds.values()))))
    scores = pa.table(
        {
            "track_id": ids,
            "probabilities": pa.array(
                [None if np.isnan(x) else [x, 1 - x] for x in p], pa.list_(pa.float32())
            ),
            "loss": pa.array(-np.log(p), from_pandas=True),
        }
    )
    return Segments.of(scores, tracks or [track(track_id) for track_id in log_odds], CLASSES, sound)


def made(seed, stretch=1):
    """Log odds by track: nine in ten segments around -2, in one in ten stretches around +2."""
    rng = np.random.default_rng(seed)
    wrong = [np.repeat(rng.random(LENGTH // stretch) < 0.1, stretch) for _ in range(TRACKS)]
    return {f"t{t}": rng.normal(-2 + 4 * own, 1.0) for t, own in enumerate(wrong)}


def fitted(segments, config=BOTH):
    model = (
        None
        if segments.sound is None
        else fit_track_model(sound_moments(segments.sound, segments.track))
    )
    return fit_evidence(sum_spread(segments, 1.0, model), 1.0, model, config)


def catalog(difficulty, heard=True, seed=0):
    """Segments whose tracks are more or less hard, a tenth of them wrong and, if that can be heard,
    of another sound; and which are wrong [N]."""
    rng = np.random.default_rng(seed)
    wrong = rng.random((TRACKS, LENGTH)) < 0.1
    odds = rng.normal(-2 + 3 * wrong + rng.normal(0, difficulty, (TRACKS, 1)), 1.0)
    sound = np.repeat(rng.normal(-40, 8, (TRACKS, NUMBERS)), LENGTH, axis=0)
    strange = (wrong if heard else rng.permuted(wrong, axis=1)).reshape(-1, 1)
    sound = np.where(strange, rng.normal(-40, 8, sound.shape), sound) + rng.normal(
        0, 3, sound.shape
    )
    return segments_of({f"t{t}": own for t, own in enumerate(odds)}, sound), wrong.ravel()


def test_neighbours_speak_where_wrong_stretches_are_longer_than_a_segment():
    assert fitted(segments_of(made(0, stretch=1))).neighbours < 0.1
    assert fitted(segments_of(made(0, stretch=6))).neighbours > 0.5


def test_without_neighbours_and_track_model_the_loss_stays_as_it_is():
    segments = segments_of(made(0, stretch=6))
    loss, consistency = fitted(segments, EvidenceConfig(neighbours=False)).losses(segments)
    np.testing.assert_array_equal(loss, segments.loss)
    assert np.isnan(consistency).all()


def test_a_standard_deviation_of_inconsistency_counts_as_many_nats_as_it_is_told():
    rng = np.random.default_rng(0)
    sound = np.repeat(rng.normal(-40, 8, (TRACKS, NUMBERS)), LENGTH, axis=0)
    sound = sound + rng.normal(0, 3, sound.shape)
    sound[5] = -20
    segments = segments_of(made(0), sound)
    for nats in (0.5, 1.0):
        evidence = fitted(segments, EvidenceConfig(neighbours=False, consistency=nats))
        loss, consistency = evidence.losses(segments)
        assert consistency[5] == consistency.min()
        added = np.log(np.expm1(loss)) - np.log(np.expm1(segments.loss))
        assert added[5] == added.max() > nats
        assert added.std() == pytest.approx(nats, rel=0.01)


def test_a_surer_model_counts_no_more_than_it_is_right():
    """The same model made twice as sure: what it says is worth the same beside the sound."""
    segments, _ = catalog(difficulty=0.5)
    again = segments_of({"t": np.log(np.expm1(segments.loss)) * 2})
    assert sum_losses(again).argmin() > sum_losses(segments).argmin() + 8
    surer = Segments(
        again.posterior, again.loss, segments.label, segments.track, segments.fitted, segments.sound
    )
    model = fit_track_model(sound_moments(segments.sound, segments.track))
    losses = [
        fit_evidence(sum_spread(own, temperature, model), temperature, model, BOTH).losses(own)[0]
        for own, temperature in ((segments, 1.0), (surer, 2.0))
    ]
    np.testing.assert_allclose(losses[0], losses[1], atol=0.02)


def test_model_and_sound_agree_only_where_they_see_the_same_wrong_segments():
    seen, unseen = (fitted(catalog(difficulty=0.5, heard=heard)[0]) for heard in (True, False))
    assert seen.agreement > 0.4
    assert abs(unseen.agreement) < 0.15
    assert (seen.in_parts, unseen.in_parts) == (True, False)
    unasked = fitted(catalog(difficulty=0.5)[0], EvidenceConfig(min_agreement=None))
    assert unasked.in_parts is None
    deaf = fitted(segments_of(made(0)))
    assert deaf.agreement is deaf.in_parts is None


def test_where_labels_are_wrong_in_parts_of_tracks_a_hard_track_is_not_a_wrong_one():
    segments, wrong = catalog(difficulty=2.0)
    within, across = (
        roc_auc_score(
            wrong, fitted(segments, EvidenceConfig(min_agreement=least)).losses(segments)[0]
        )
        for least in (0.25, None)
    )
    assert within > 0.98
    assert across < within - 0.03


def test_where_sound_does_not_tell_whole_tracks_may_be_wrong():
    segments, _ = catalog(difficulty=2.0, heard=False)
    evidence = fitted(segments, EvidenceConfig(neighbours=False))
    assert evidence.between == 0.0
    mean = [np.bincount(segments.track, x) for x in (segments.loss, evidence.losses(segments)[0])]
    assert np.corrcoef(mean)[0, 1] > 0.95


def test_what_others_let_expect_is_taken_off_and_few_others_let_expect_little():
    """A hundred others with odds 1 above the mean, one such other, none: with as much variance
    between as within."""
    track, values = np.repeat([0, 1, 2], [101, 2, 1]), np.full(104, 3.0)
    found = beyond_others(values, track, mean=2.0, between=1.0)
    unknown = np.array([1 / 101, 1 / 2, 1])
    np.testing.assert_allclose(found[[0, 101, 103]], 2 + unknown / np.sqrt(1 + unknown))
    np.testing.assert_allclose(beyond_others(values, track, mean=2.0, between=0.0), values)


def test_segments_of_short_tracks_are_not_further_out_than_those_of_long_ones():
    rng, lengths = np.random.default_rng(0), np.repeat([1, 2, 5, 30], 2000)
    track = np.repeat(np.arange(len(lengths)), lengths)
    values = rng.normal(0, 2, len(lengths))[track] + rng.normal(0, 1, len(track))
    found, length = beyond_others(values, track, mean=0.0, between=4.0), lengths[track]
    assert [found[length == n].std() for n in (1, 2, 5, 30)] == pytest.approx(
        [1, 1, 1, 1], rel=0.05
    )


def test_parts_add_up_to_the_catalog_exactly_in_any_order():
    segments, _ = catalog(difficulty=0.5)
    model = fit_track_model(sound_moments(segments.sound, segments.track))
    parts = [
        Segments(*(column[segments.track % 7 == part] for column in vars(segments).values()))
        for part in range(7)
    ]
    for summed in (sum_losses, lambda part: sum_spread(part, 1.7, model)):
        forward, backward = (
            functools.reduce(operator.add, map(summed, some)) for some in (parts, parts[::-1])
        )
        for a, b in zip(
            *(vars(s).values() if isinstance(s, Spread) else [s] for s in (forward, backward)),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


def test_sound_that_tells_nothing_is_not_blown_up():
    segments = segments_of(
        made(0), np.random.default_rng(0).normal(-40, 8, (TRACKS * LENGTH, NUMBERS))
    )
    assert fitted(segments).unit <= 1.0


def test_what_is_missing_leaves_the_rest_to_speak():
    rng = np.random.default_rng(0)
    log_odds = made(0) | {"single": np.array([3.0]), "unscored": np.array([-2.0, np.nan, -2.0])}
    segments = segments_of(log_odds, rng.normal(-40, 8, (TRACKS * LENGTH + 4, NUMBERS)))
    loss, consistency = fitted(segments).losses(segments)
    assert np.isnan(consistency[-4])
    assert loss[-4] == pytest.approx(np.logaddexp(0, 3.0), rel=1e-4)
    assert np.isnan(loss[-2])
    assert np.isfinite(np.delete(loss, -2)).all()


def test_locked_and_held_out_tracks_say_nothing_about_the_scale():
    log_odds = made(0)
    others = [track(t, "test") if i < 30 else track(t, locked=True) for i, t in enumerate(log_odds)]
    segments = segments_of(log_odds, tracks=others)
    assert sum_spread(segments, 1.0, None).segments == 0
    assert not sum_losses(segments).any()
    assert fitted(segments) == Evidence()


def test_neighbours_are_those_of_the_same_track():
    values = np.array([[1.0], [2.0], [np.nan], [4.0], [10.0], [20.0], [5.0]])
    found = around_in_track(values, np.array([0, 0, 0, 0, 1, 1, 2]))
    np.testing.assert_allclose(found[:, 0], [2.0, 2.5, 7 / 3, 2.0, 20.0, 10.0, np.nan])


def test_less_than_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"--consistency -1\.0: expected 0 or more"):
        EvidenceConfig(consistency=-1.0)
