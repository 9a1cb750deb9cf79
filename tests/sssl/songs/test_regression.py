"""Valence and arousal by regression, and the classes that they say."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from schemas.records import dump, load
from sssl.songs.classifier import (
    NUMBERS,
    LabelledTracks,
    SongModel,
    _blended,
    fit_classifier,
    fit_songs,
)
from sssl.songs.pool import surely_likelier
from sssl.songs.regression import (
    FEWEST_TRACKS,
    LEVEL,
    fit_regression,
    qualities,
    said_of,
)
from sssl.songs.settings import SongConfig
from sssl.songs.song import SongMaker

CLASSES = ("Q1", "Q2", "Q3", "Q4")
SIGNS = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)], float)
POSTERIORS, SOUND = 2 * len(CLASSES), 12
CONFIG = SongConfig()
NOISE = 0.15


def truth(sound):
    """Valence and arousal that a sound [N, K] says: the one nearly linear, the other not."""
    valence = np.tanh(0.5 * sound[:, 0] + 0.3 * sound[:, 1])
    arousal = np.sin(sound[:, 2]) * np.exp(-(sound[:, 3] ** 2) / 4)
    return np.stack([valence, arousal], axis=1)


def tracks(count, seed=0, *, noise=NOISE, told=True, groups=None):
    """Labelled tracks whose numbers their sound tells, or nothing does, and the network neither."""
    rng = np.random.default_rng(seed)
    sound = rng.normal(0, 1, (count, SOUND))
    place = truth(sound if told else rng.normal(0, 1, (count, SOUND)))
    numbers = np.clip(place + rng.normal(0, noise, place.shape), -1, 1)
    posteriors = np.log(rng.dirichlet(np.full(4, 20.0), count))
    features = np.hstack([posteriors, posteriors, sound])
    group = np.arange(count) if groups is None else rng.integers(0, groups, count)
    labels = (np.sign(numbers)[:, None] == SIGNS).all(axis=2).argmax(axis=1)
    return LabelledTracks(features, labels, group % 4, None, numbers, group)


NONE = tracks(0)


def fitted(labelled):
    return fit_regression(labelled.places(), SIGNS)


def by_name(found):
    return {(quality.axis, quality.of): quality for quality in found}


def test_a_known_relation_between_sound_and_numbers_is_recovered():
    found = fitted(tracks(400)).regression
    new = tracks(400, seed=1, noise=0.0)
    place = found.places(new.features)
    error = np.sqrt(np.mean((place - new.numbers) ** 2, axis=0))
    assert (error < new.numbers.std(axis=0) / 2).all()


@pytest.mark.parametrize("groups", [None, 60])
def test_intervals_hold_the_numbers_of_nine_in_ten_new_tracks(groups):
    covered = []
    for seed in range(5):
        found = fitted(tracks(300, seed=seed, groups=groups)).regression
        new = tracks(400, seed=100 + seed)
        measured = qualities("held-out tracks", new.numbers, said_of(found, new.places()))
        covered += [quality.coverage for quality in measured]
    assert LEVEL - 0.03 < np.mean(covered) < LEVEL + 0.05


def test_what_nothing_tells_is_never_worse_than_the_mean():
    measured = by_name(fitted(tracks(200, told=False)).qualities)
    assert measured["valence", "train tracks"].r2 > -0.05
    assert measured["arousal", "train tracks"].r2 > -0.05


def test_numbers_stay_within_those_of_the_tracks_that_have_them():
    labelled = tracks(200)
    narrow = labelled._replace(numbers=labelled.numbers / 2)
    strange = labelled.features.copy()
    strange[:, POSTERIORS:] *= 1000
    found = fitted(narrow).regression
    place = found.places(strange)
    assert (np.abs(place) <= 0.5).all()
    low, high = found.intervals(place)
    assert (low >= -1).all()
    assert (high <= 1).all()
    assert (low < high).all()


def test_a_strange_track_moves_nobody_else_s_numbers():
    labelled = tracks(300)
    odd = labelled.features.copy()
    odd[0, POSTERIORS:] = 1e6
    new = tracks(200, seed=1)
    usual = fitted(labelled).regression.places(new.features)
    with_odd = fitted(labelled._replace(features=odd)).regression.places(new.features)
    assert np.abs(usual - with_odd).mean() < 0.05


def test_with_few_groups_the_interval_is_the_whole_scale():
    few = tracks(60, groups=6)
    found = fitted(few).regression
    low, high = found.intervals(found.places(few.features))
    assert (low == -1).all()
    assert (high == 1).all()


def test_too_few_numbers_are_none():
    assert fitted(tracks(FEWEST_TRACKS - 1)) is None
    one_fold = tracks(100)._replace(folds=np.zeros(100, int))
    assert fitted(one_fold) is None
    some = tracks(100)
    some.numbers[FEWEST_TRACKS - 1 :] = np.nan
    model = fit_songs(some, NONE, 4, CONFIG, SIGNS)
    assert model.classifier.regression is None
    assert model.numbers == ()


def test_tracks_without_numbers_are_not_learned_from():
    labelled = tracks(200)
    labelled.numbers[150:] = np.nan
    rows = np.arange(150)
    with_others, alone = (fitted(own) for own in (labelled, labelled.take(rows)))
    assert with_others.regression == alone.regression


def test_the_class_is_likelier_for_the_numbers_where_they_tell_it():
    labelled = tracks(400, noise=0.05)
    without = fit_classifier(labelled, 4, CONFIG)
    found = fit_classifier(labelled, 4, CONFIG, SIGNS)
    losses = {part.name: part.log_loss for part in found.parts}
    assert losses["pool"] <= without.parts[-1].log_loss
    assert found.classifier.blend[1] > 0
    weights = {part.name: part.weight for part in found.parts}
    assert weights[NUMBERS] == found.classifier.blend[1]


def test_the_class_stays_as_it_was_where_numbers_say_nothing_of_it():
    labelled = tracks(200, told=False)
    without = fit_classifier(labelled, 4, CONFIG)
    found = fit_classifier(labelled, 4, CONFIG, SIGNS)
    assert found.parts[-1].log_loss <= without.parts[-1].log_loss
    if not found.classifier.blend[1]:
        np.testing.assert_array_equal(found.left_out, without.left_out)


def test_tracks_that_gain_together_count_as_one():
    labels = np.zeros(40, np.int64)
    groups = np.arange(40) // 10
    before = np.log(np.full((40, 4), 0.25))
    # Three groups of four gain, and the fourth loses nearly as much as all of these.
    by_group = np.array([0.1, 0.1, 0.1, -0.25])
    after = before + by_group[groups][:, None]
    assert surely_likelier(before + 0.1, before, labels, groups)
    assert surely_likelier(after + 0.04, before, labels)
    assert not surely_likelier(after + 0.04, before, labels, groups)


def test_a_class_that_the_pool_rules_out_does_not_silence_the_numbers():
    labelled = tracks(80)
    fitted = fit_classifier(labelled, 4, CONFIG, SIGNS)
    sure = fitted.left_out.copy()
    sure[:, 3] = 0.0
    with np.errstate(divide="raise"):
        blended = _blended(fitted._replace(left_out=sure), labelled)
    weights = {part.name: part.weight for part in blended.parts}
    assert weights[NUMBERS] > 0


def test_classes_agree_with_the_signs_of_sure_numbers():
    found = fitted(tracks(400, noise=0.02)).regression
    new = tracks(300, seed=1, noise=0.0)
    place = found.places(new.features)
    spread = np.array([axis.spread for axis in found.axes])
    sure = (np.abs(place) > 2 * spread).all(axis=1)
    assert sure.sum() > 20
    said = found.log_probabilities(new.features)[sure].argmax(axis=1)
    assert (np.sign(place[sure]) == SIGNS[said]).all()
    assert np.exp(found.log_probabilities(new.features)).sum(axis=1) == pytest.approx(1.0)


def test_log_probabilities_are_those_of_normal_numbers_on_their_side_of_zero():
    found = fitted(tracks(80)).regression
    features = tracks(30, seed=1).features
    place = found.places(features)
    spread = np.array([axis.spread for axis in found.axes])
    on_side = norm.logcdf(place[:, None] * SIGNS / spread)
    np.testing.assert_array_equal(found.log_probabilities(features), on_side.sum(axis=2))


def test_held_out_tracks_say_how_good_numbers_are():
    model = fit_songs(tracks(300), tracks(100, seed=5), 4, CONFIG, SIGNS)
    measured = by_name(model.numbers)
    assert {of for _, of in measured} == {"train tracks", "held-out tracks"}
    of_valence = measured["valence", "held-out tracks"]
    assert of_valence.tracks == 100
    assert of_valence.r2 > 0.5
    assert of_valence.ccc > 0.7
    assert of_valence.rmse < 0.4
    assert of_valence.coverage > 0.8


def test_nobody_s_numbers_are_said_by_what_knows_them():
    labelled = tracks(120, told=False, noise=0.0)
    model = fit_songs(labelled, NONE, 4, CONFIG, SIGNS)
    for fold, classifier in model.by_fold.items():
        own = labelled.folds == fold
        changed = labelled.numbers.copy()
        changed[own] = -changed[own]
        again = fit_songs(labelled._replace(numbers=changed), NONE, 4, CONFIG, SIGNS)
        experts = again.by_fold[fold].regression.experts
        assert experts == classifier.regression.experts


def test_a_model_with_numbers_is_the_same_after_json():
    model = fit_songs(tracks(60), tracks(20, seed=2), 4, CONFIG, SIGNS)
    assert load(SongModel, dump(model)) == model


def test_a_model_without_numbers_is_written_as_it_always_was():
    written = dump(fit_songs(tracks(60), NONE, 4, CONFIG))
    assert "numbers" not in written
    assert {"regression", "blend"}.isdisjoint(written["classifier"])
    assert load(SongModel, written).classifier.regression is None


def song_of(model, sound, posterior=None):
    maker = SongMaker(model, CONFIG, CLASSES, 3.0, 0, "m")
    count = len(sound)
    uniform = np.full((count, 4), 0.25) if posterior is None else posterior
    return maker.song("t", uniform, sound, np.arange(count) * 2.0)


@pytest.fixture(scope="module")
def model():
    return fit_songs(tracks(400), tracks(100, seed=5), 4, CONFIG, SIGNS)


def test_a_song_has_its_numbers_within_their_intervals(model):
    song = song_of(model, np.zeros((6, SOUND)))
    assert song.valence_low < song.valence < song.valence_high
    assert song.arousal_low < song.arousal < song.arousal_high


def test_a_song_without_a_regression_has_no_numbers(model):
    bare = replace(model, classifier=replace(model.classifier, regression=None))
    song = song_of(bare, np.zeros((6, SOUND)))
    assert song.valence is song.arousal_high is song.valence_arousal_timeline is None


def test_the_timeline_of_numbers_follows_the_sound(model):
    sound = np.zeros((20, SOUND))
    sound[:10, 0], sound[10:, 0] = -2.0, 2.0
    course = song_of(model, sound).valence_arousal_timeline
    assert [entry["start_s"] for entry in course] == [2.0 * at for at in range(20)]
    assert [entry["end_s"] for entry in course[-2:]] == [38.0, 41.0]
    assert course[2]["valence"] < -0.3 < 0.3 < course[17]["valence"]


def test_an_unchanging_track_has_its_own_numbers_in_every_segment(model):
    song = song_of(model, np.full((5, SOUND), 0.5))
    for entry in song.valence_arousal_timeline:
        assert entry["valence"] == pytest.approx(song.valence)
        assert entry["arousal"] == pytest.approx(song.arousal)


def test_an_embedding_that_tells_the_numbers_is_used():
    labelled = tracks(300, told=False)
    rng = np.random.default_rng(3)
    told = labelled.numbers @ rng.normal(0, 1, (2, 30)) + rng.normal(0, 0.1, (300, 30))
    told[:5] = np.nan
    found = fitted(labelled._replace(embeddings=told))
    assert by_name(found.qualities)["valence", "train tracks"].r2 > 0.6
    assert found.regression.valence.weights[-1] > 0.5
    without = found.regression.places(labelled.features)
    assert np.isfinite(without).all()
