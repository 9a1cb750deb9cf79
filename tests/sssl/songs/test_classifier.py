import numpy as np
import pytest

from schemas.records import dump, load
from schemas.summaries import of_today
from sssl.errors import ConfigError
from sssl.songs.classifier import (
    OPINIONS,
    LabelledTracks,
    SongModel,
    fit_classifier,
    fit_songs,
    fit_weights,
    pooled,
)
from sssl.songs.kernel import fit_kernel
from sssl.songs.settings import SongConfig
from sssl.songs.softmax import statistics
from sssl.songs.song import SongMaker, timeline
from sssl.songs.threshold import bins_for, choose_threshold

CLASSES = ("Q1", "Q2", "Q3")


def posterior(peaks, confidence=0.8):
    rows = np.full((len(peaks), 3), (1 - confidence) / 2)
    rows[np.arange(len(peaks)), peaks] = confidence
    return rows


def of_posteriors(rows):
    """Statistics of a track whose sound nobody looked at."""
    return statistics(rows, np.empty((len(rows), 0)))


def test_statistics_of_one_segment_are_the_segment():
    log_mean, mean_log = of_posteriors(np.array([[0.7, 0.2, 0.1]])).reshape(2, 3)
    np.testing.assert_allclose(np.exp(log_mean), [0.7, 0.2, 0.1])
    np.testing.assert_allclose(mean_log, log_mean)


def test_statistics_do_not_depend_on_the_order_of_segments():
    rows = posterior([0, 1, 1, 2])
    np.testing.assert_allclose(of_posteriors(rows), of_posteriors(rows[::-1]))


def tracks_of(features, labels, groups=None):
    """Tracks of as many groups as there are, or of some, dealt into five folds."""
    groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
    return LabelledTracks(features, labels, groups.astype(int) % 5)


NONE = tracks_of(np.empty((0, 6)), np.empty(0, int))


def fitted(features, labels, classes=3):
    return fit_classifier(tracks_of(features, labels), classes, SongConfig()).classifier


def labelled(count=300, seed=0):
    """Tracks of 8 segments of which 60 % peak at the track's class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    peaks = [np.where(rng.random(8) < 0.6, label, rng.integers(0, 3, 8)) for label in labels]
    return np.array([of_posteriors(posterior(p)) for p in peaks]), labels


def test_the_classifier_learns_and_its_probabilities_are_calibrated():
    classifier = fitted(*labelled())
    features, labels = labelled(2000, seed=1)
    p = classifier.probabilities(features)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    right = p.argmax(axis=1) == labels
    assert right.mean() > 0.85
    assert abs(p.max(axis=1).mean() - right.mean()) < 0.05


def test_few_tracks_cannot_make_the_label_worse_than_the_mean_posterior():
    features, labels = labelled(20)
    classifier = fitted(features, labels)
    tested, true = labelled(500, seed=1)
    right = classifier.probabilities(tested).argmax(axis=1) == true
    assert right.mean() >= (tested[:, :3].argmax(axis=1) == true).mean() - 0.01


def test_statistics_beyond_the_mean_are_used_where_they_tell_more():
    """Tracks of equal mean posterior whose class shows in whether some segments speak against
    it."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    even, split = (
        np.tile([0.45, 0.45, 0.1], (8, 1)),
        np.tile([[0.89, 0.01, 0.1], [0.01, 0.89, 0.1]], (4, 1)),
    )
    features = np.array([of_posteriors([even, split][label]) for label in labels])
    np.testing.assert_allclose(features[:, :3], features[:1, :3].repeat(300, axis=0))
    classifier = fitted(features, labels, 3)
    assert right_share(classifier, features, labels) == 1


def with_sound(count, told, seed=0):
    """Tracks of which every other has the posteriors of some track, and one of three numbers of the
    sound tells the label as far as `told` standard deviations go."""
    features, labels = labelled(count, seed)
    rng = np.random.default_rng(seed)
    features[::2] = features[rng.permutation(count)[::2]]
    sound = rng.normal(0, 1, (count, 3)) + told * labels[:, None] * [0, 1, 0]
    return np.concatenate([features, sound], axis=1), labels


def right_share(classifier, features, labels):
    return np.mean(classifier.probabilities(features).argmax(axis=1) == labels)


def test_the_sound_is_used_where_it_tells_more():
    tracks, new = with_sound(300, told=3), with_sound(1000, told=3, seed=1)
    deaf = fitted(tracks[0][:, :6], tracks[1])
    assert right_share(fitted(*tracks), *new) > right_share(deaf, *new) + 0.05


def test_sound_that_tells_nothing_does_no_harm():
    tracks, new = with_sound(300, told=0), with_sound(1000, told=0, seed=1)
    deaf = fitted(tracks[0][:, :6], tracks[1])
    assert right_share(fitted(*tracks), *new) > right_share(deaf, *new) - 0.02


def test_few_tracks_trust_the_sound_less():
    """Of 12 tracks much of the sound seems to tell the label by chance; 48 numbers would make it
    sure."""
    rng = np.random.default_rng(0)
    labels = np.arange(12) % 3
    features = np.concatenate([np.full((12, 6), np.log(1 / 3)), rng.normal(0, 1, (12, 48))], axis=1)
    new = np.concatenate([np.full((200, 6), np.log(1 / 3)), rng.normal(0, 1, (200, 48))], axis=1)
    few = fitted(features, labels)
    assert few.probabilities(new).max(axis=1).mean() < 0.45


def test_music_unlike_all_train_tracks_gets_no_certain_label_from_its_sound():
    """Such as another sample rate makes, in whose upper bands train tracks had nothing: there the
    sound says little."""
    features, labels = with_sound(300, told=0)
    sound = np.random.default_rng(0).normal(-99, 0.1, (300, 16)) + 0.05 * labels[:, None]
    features = np.concatenate([features[:, :6], sound], axis=1)
    far = np.concatenate([of_posteriors(posterior([2] * 8)), np.full(16, -40.0)])
    probabilities = fitted(features, labels).probabilities(far[None])
    border = np.concatenate(
        [far[:6], features[:, 6:].mean(axis=0) + 3 * features[:, 6:].std(axis=0)]
    )
    np.testing.assert_allclose(probabilities, fitted(features, labels).probabilities(border[None]))


def test_the_sound_of_a_track_is_the_mean_of_its_segments():
    np.testing.assert_array_equal(
        statistics(posterior([0, 1]), np.array([[1.0, 2.0], [3.0, 4.0]]))[6:], [2.0, 3.0]
    )


def test_a_classifier_from_before_there_was_sound_still_labels():
    features, labels = labelled()
    classifier = fitted(features, labels)
    longer = np.concatenate([features, np.ones((len(features), 2))], axis=1)
    np.testing.assert_array_equal(
        classifier.probabilities(longer), classifier.probabilities(features)
    )


def test_two_classes_one_class_and_no_track_work_too():
    features, labels = labelled()
    both = features[labels < 2][:, np.arange(6) % 3 < 2]
    two = fitted(both, labels[labels < 2], 2)
    assert right_share(two, both, labels[labels < 2]) > 0.85
    for count in (5, 0):
        few = fitted(features[labels == 0][:count], labels[labels == 0][:count])
        assert few.probabilities(of_posteriors(posterior([2, 2, 1]))[None]).argmax() == 2


def test_probabilities_of_left_out_tracks_are_not_those_of_the_fit_on_them():
    """Statistics that tell nothing: what the fit says of its own tracks looks good, of others it is
    chance."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(0, 1, (90, 6)), rng.integers(0, 3, 90)
    features[:, :3] = np.log(1 / 3)
    left_out = fit_classifier(tracks_of(features, labels), 3, SongConfig()).left_out
    np.testing.assert_allclose(left_out.sum(axis=1), 1)
    assert np.log(left_out[np.arange(90), labels]).mean() == pytest.approx(np.log(1 / 3), abs=0.02)


def test_a_group_is_left_out_as_a_whole():
    """Statistics that tell the artist, and two artists a class: known tracks of an artist would
    give it away."""
    artist = np.repeat(np.arange(24), 6)
    labels, features = artist % 12, np.full((144, 24), np.log(1 / 12))
    features[:, 12:] = np.random.default_rng(0).normal(0, 3, (24, 12))[artist]
    free = SongConfig(regularization=100.0)
    together = fit_classifier(tracks_of(features, labels, artist), 12, free).left_out
    apart = fit_classifier(tracks_of(features, labels), 12, free).left_out
    assert (apart.argmax(axis=1) == labels).mean() > 0.7
    assert (together.argmax(axis=1) == labels).mean() < 0.3


# The threshold


def outcomes(count, seed=0):
    """Calibrated confidences and whether they are right."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.3, 1.0, count)
    return confidence, rng.random(count) < confidence


@pytest.mark.parametrize("wanted", [0.7, 0.8, 0.9])
def test_songs_above_the_threshold_are_right_as_often_as_wanted(wanted):
    """On new songs, but for one catalog in twenty: that is what the interval allows."""
    confidence, correct = outcomes(20_000, seed=999)
    kept = []
    for seed in range(100):
        threshold = choose_threshold(*outcomes(300, seed), SongConfig(wanted_precision=wanted))
        kept.append([not threshold.abstains(value) for value in confidence])
    missed = [any(above) and correct[above].mean() < wanted for above in kept]
    assert np.mean(missed) < 0.1
    assert np.mean(kept) > 0.1


def test_the_threshold_falls_as_tracks_add_up_and_rises_with_what_is_wanted():
    few, many = (
        choose_threshold(*outcomes(count), SongConfig(wanted_precision=0.8))
        for count in (200, 20_000)
    )
    assert many.abstain_below < few.abstain_below
    # Calibrated and uniform: those above t are right with (1 + t) / 2.
    assert many.abstain_below == pytest.approx(0.6, abs=0.03)
    strict = choose_threshold(*outcomes(20_000), SongConfig(wanted_precision=0.9))
    assert strict.abstain_below == pytest.approx(0.8, abs=0.03)


def test_the_evidence_for_a_threshold_is_kept():
    confidence, correct = outcomes(2000)
    found = choose_threshold(confidence, correct, SongConfig(wanted_precision=0.8))
    above = confidence >= found.abstain_below
    assert (found.left_out_tracks, found.tracks_above, found.right_above) == (
        2000,
        above.sum(),
        correct[above].sum(),
    )
    assert 0.8 <= found.precision_low < found.right_above / found.tracks_above
    assert found.abstains(found.abstain_below - 1e-9)
    assert not found.abstains(found.abstain_below)


def test_where_nothing_shows_the_wanted_precision_all_songs_abstain():
    for confidence, correct in (
        outcomes(8),
        (np.full(500, 0.99), np.arange(500) % 2 == 0),
        (np.empty(0), np.empty(0, bool)),
    ):
        found = choose_threshold(confidence, correct, SongConfig(wanted_precision=0.9))
        assert (found.abstain_below, found.tracks_above, found.precision_low) == (None, 0, None)
        assert found.abstains(1.0)


def test_tracks_of_equal_confidence_stand_or_fall_together():
    """All 30 tracks at one confidence are right, then 30 at another are wrong: their order must not
    matter."""
    confidence, correct = np.repeat([0.9, 0.6], 30), np.arange(60) < 30
    for order in (np.arange(60), np.arange(60)[::-1]):
        found = choose_threshold(
            confidence[order], correct[order], SongConfig(wanted_precision=0.8)
        )
        assert (found.abstain_below, found.tracks_above, found.right_above) == (0.9, 30, 30)
        mixed = choose_threshold(np.full(60, 0.9), correct[order], SongConfig(wanted_precision=0.8))
        assert mixed.abstain_below is None


def test_a_given_threshold_stands_and_says_what_it_is_worth():
    confidence, correct = outcomes(2000)
    found = choose_threshold(confidence, correct, SongConfig(abstain_below=0.5))
    assert (found.abstain_below, found.wanted_precision) == (0.5, None)
    assert found.right_above == correct[confidence >= 0.5].sum()


def test_a_fit_brings_threshold_and_reliability_of_left_out_tracks():
    features, labels = labelled(200)
    model = fit_songs(tracks_of(features, labels), NONE, 3, SongConfig())
    assert (
        model.threshold.left_out_tracks == sum(found.tracks for found in model.reliability) == 200
    )
    assert len(model.reliability) == bins_for(200) == 10
    assert model.threshold.abstain_below is not None
    assert [bins_for(count) for count in (0, 9, 25, 10_000)] == [1, 1, 2, 10]


def test_held_out_tracks_teach_only_the_classifier_of_new_music():
    (features, labels), (more, answers) = labelled(100), labelled(100, seed=1)
    train = tracks_of(features, labels)
    alone = fit_songs(train, NONE, 3, SongConfig())
    model = fit_songs(train, tracks_of(more, answers), 3, SongConfig())
    assert alone.classifier == alone.held_out_classifier
    assert (model.held_out_classifier, model.threshold) == (
        alone.held_out_classifier,
        alone.threshold,
    )
    assert model.reliability == alone.reliability
    taught = fitted(np.concatenate([features, more]), np.concatenate([labels, answers]))
    assert model.classifier.softmax == taught.softmax
    assert model.classifier.weights == alone.classifier.weights
    assert model.classifier != alone.classifier
    maker = SongMaker(model, SongConfig(), CLASSES, 3.0, 0, "m")
    segments, sound, start_s = posterior([0, 0, 1]), np.empty((3, 0)), np.array([0.0, 3.0, 6.0])
    by_split = {
        "test": model.held_out_classifier,
        "train": model.by_fold[2],
        None: model.classifier,
    }
    for split, classifier in by_split.items():
        song = maker.song("t", segments, sound, start_s, split, fold=2)
        assert (
            song.probabilities
            == classifier.probabilities(statistics(segments, sound)[None])[0].tolist()
        )


def test_a_song_without_its_sound_is_one_of_average_sound():
    rng, labels = np.random.default_rng(0), np.arange(120) % 3
    rows = [posterior(peaks) for peaks in rng.integers(0, 3, (120, 4))]
    sounds = np.eye(3)[labels] + rng.normal(0, 0.3, (120, 3))
    tracks = tracks_of(
        np.array([statistics(r, s[None]) for r, s in zip(rows, sounds, strict=True)]), labels
    )
    classifier = fit_classifier(tracks, 3, SongConfig()).classifier
    alone = classifier.without_sound(rows[0])
    assert alone.sum() == pytest.approx(1)
    assert classifier.probabilities(tracks.features[:1])[0, 0] > alone[0] + 0.1


def test_the_model_of_an_older_manifest_has_one_classifier():
    model = fit_songs(tracks_of(*labelled(100)), tracks_of(*labelled(50, seed=1)), 3, SongConfig())
    assert load(SongModel, of_today(dump(model), ())) == model
    older = {name: value for name, value in dump(model).items() if name != "held_out_classifier"}
    read = load(SongModel, of_today(older, ()))
    assert read.classifier == read.held_out_classifier == model.classifier


def test_the_classifier_of_an_older_manifest_was_a_softmax_alone():
    model = fit_songs(tracks_of(*labelled(100)), NONE, 3, SongConfig())
    older = {**dump(model), "classifier": dump(model.classifier.softmax)}
    read = load(SongModel, of_today(older, ()))
    features, _ = labelled(20, seed=1)
    expected = np.exp(model.classifier.softmax.log_probabilities(features))
    np.testing.assert_allclose(read.classifier.probabilities(features), expected)


# The pool


def opinion(labels, told, seed, sure=1.0):
    """Log probabilities of three classes that know the labels as far as `told` nats go, and say so
    `sure` times."""
    rng = np.random.default_rng(seed)
    logits = told * np.eye(3)[labels] + rng.normal(0, 1, (len(labels), 3))
    logits *= sure
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def loss(probabilities, labels):
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean()


def test_a_pool_is_better_than_each_of_its_opinions():
    labels, new = (np.random.default_rng(seed).integers(0, 3, 400) for seed in (0, 1))
    opinions = np.stack([opinion(labels, told, seed) for seed, told in enumerate((1.0, 1.5, 1.0))])
    others = np.stack([opinion(new, told, 10 + seed) for seed, told in enumerate((1.0, 1.5, 1.0))])
    found = np.exp(pooled(others, fit_weights(opinions, labels)))
    assert loss(found, new) < min(loss(np.exp(one), new) for one in others) - 0.05


def test_an_opinion_that_knows_nothing_counts_for_nothing():
    labels = np.random.default_rng(0).integers(0, 3, 1000)
    opinions = np.stack([opinion(labels, 2.0, 1), opinion(labels, 0.0, 2), opinion(labels, 2.0, 3)])
    assert fit_weights(opinions, labels)[1] < 0.1


def test_opinions_that_are_too_sure_are_toned_down():
    labels, new = (np.random.default_rng(seed).integers(0, 3, 1000) for seed in (0, 1))
    opinions, others = (
        np.stack([opinion(own, 1.0, 5 + n, sure=4.0) for n in range(3)]) for own in (labels, new)
    )
    found = np.exp(pooled(others, fit_weights(opinions, labels)))
    right = found.argmax(axis=1) == new
    assert found.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.05)


def test_few_tracks_leave_all_opinions_their_say():
    labels = np.arange(4) % 3
    opinions = np.stack([opinion(labels, 8.0, 1), opinion(labels, 0.0, 2), opinion(labels, 0.0, 3)])
    assert (fit_weights(opinions, labels) > 0.02).all()


def test_what_each_opinion_is_worth_is_said():
    none = tracks_of(np.empty((0, 9)), np.empty(0, int))
    model = fit_songs(tracks_of(*with_sound(200, told=3)), none, 3, SongConfig())
    assert [part.name for part in model.parts] == [*OPINIONS, "pool"]
    by_name = {part.name: part for part in model.parts}
    assert by_name["pool"].log_loss < by_name["network"].log_loss
    assert by_name["pool"].log_loss < min(part.log_loss for part in model.parts[:3]) + 0.02
    assert [part.weight for part in model.parts] == [*model.classifier.weights, None]


def test_a_kernel_learns_what_no_straight_line_divides():
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 1, (400, 2))
    labels = (sound[:, 0] * sound[:, 1] > 0).astype(int)
    kernel = fit_kernel(sound[:300], labels[:300], 2)
    right = kernel.log_probabilities(sound[300:]).argmax(axis=1) == labels[300:]
    assert right.mean() > 0.9
    similar = kernel.similarities(sound)
    assert similar.min() >= 0
    assert similar.max() <= 1


def test_a_train_track_is_labelled_by_what_does_not_know_its_label():
    """Sound that tells the track and nothing else: whoever had learned from a track would know it
    again."""
    rng = np.random.default_rng(0)
    features = np.concatenate([np.full((60, 6), np.log(1 / 3)), rng.normal(0, 1, (60, 12))], axis=1)
    tracks = tracks_of(features, rng.integers(0, 3, 60))
    model = fit_songs(tracks, tracks_of(np.empty((0, 18)), np.empty(0, int)), 3, SongConfig())
    assert sorted(model.by_fold) == [0, 1, 2, 3, 4]
    known = model.classifier.opinions(features)[2].argmax(axis=1) == tracks.labels
    own = [model.classifier_for("train", fold) for fold in tracks.folds]
    left_out = [
        one.opinions(row[None])[2].argmax() for one, row in zip(own, features, strict=True)
    ] == tracks.labels
    assert known.mean() > 0.9
    assert left_out.mean() < 0.6


def test_a_single_group_cannot_be_left_out_so_all_songs_abstain():
    features, labels = labelled(50)
    model = fit_songs(
        tracks_of(features, labels, np.zeros(50)), NONE, 3, SongConfig(wanted_precision=0.8)
    )
    assert model.threshold.left_out_tracks == 0
    assert model.threshold.abstains(1.0)
    assert model.reliability == ()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"wanted_precision": 80}, "--wanted-precision 80: expected a share between 0 and 1"),
        ({"smooth_segments": 4}, "--smooth-segments 4: expected an odd number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        SongConfig(**setting)


# The timeline


def test_the_smoothed_posterior_is_the_mean_over_the_segments_around_fewer_at_the_ends():
    rows = np.array([[1.0, 0, 0], [0.4, 0.6, 0], [0.1, 0.9, 0], [0.1, 0.9, 0]])
    (first, second) = timeline(rows, np.arange(4) * 3.0, 3.0, CLASSES, smooth_segments=3)
    assert (first["label"], first["end_s"]) == ("Q1", 6.0)
    assert first["confidence"] == pytest.approx(np.mean([(1 + 0.4) / 2, (1 + 0.4 + 0.1) / 3]))
    assert second["confidence"] == pytest.approx(np.mean([(0.6 + 0.9 + 0.9) / 3, 0.9]))


def test_a_timeline_joins_neighbours_and_covers_the_track():
    start_s = np.arange(6) * 3.0
    entries = timeline(posterior([0, 0, 0, 1, 1, 1]), start_s, 3.0, CLASSES, smooth_segments=1)
    assert [(e["start_s"], e["end_s"], e["label"]) for e in entries] == [
        (0, 9, "Q1"),
        (9, 18, "Q2"),
    ]
    assert entries[0]["confidence"] == pytest.approx(0.8)


def test_smoothing_removes_a_single_stray_segment():
    start_s = np.arange(7) * 3.0
    entries = timeline(posterior([0, 0, 0, 1, 0, 0, 0]), start_s, 3.0, CLASSES, smooth_segments=3)
    assert [e["label"] for e in entries] == ["Q1"]


def test_a_gap_in_the_segments_is_a_gap_in_the_timeline():
    entries = timeline(posterior([0, 1]), np.array([0.0, 9.0]), 3.0, CLASSES, smooth_segments=1)
    assert [(e["start_s"], e["end_s"]) for e in entries] == [(0, 3), (9, 12)]


def test_a_timeline_lasts_until_its_track_ends():
    rows, start_s = posterior([0, 0, 1]), np.arange(3) * 3.0
    to_end = timeline(rows, start_s, 3.0, CLASSES, smooth_segments=1, decoded_s=11.5)
    assert [(e["start_s"], e["end_s"]) for e in to_end] == [(0, 6), (6, 11.5)]
    # A decoder's rounding does not make a segment shorter.
    short = timeline(rows, start_s, 3.0, CLASSES, smooth_segments=1, decoded_s=8.9999)
    assert short[-1]["end_s"] == 9


def test_a_timeline_ends_where_the_table_of_tracks_says_to_the_last_bit():
    rows, start_s = posterior([0]), np.zeros(1)
    (entry,) = timeline(rows, start_s, 3.0, CLASSES, smooth_segments=1, decoded_s=5.1)
    assert entry["end_s"] == float(np.float32(5.1))


# What is unlike anything labelled


def sounding(count, seed=0):
    """Tracks whose sound, 12 numbers, tells the label, and whose posteriors say nothing."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    sound = rng.normal(0, 1, (count, 12)) + 2 * np.eye(3)[labels].repeat(4, axis=1)
    return np.concatenate([np.full((count, 6), np.log(1 / 3)), sound], axis=1), labels


def maker_of(features, labels):
    none = tracks_of(np.empty((0, features.shape[1])), np.empty(0, int))
    model = fit_songs(tracks_of(features, labels), none, 3, SongConfig(abstain_below=0.0))
    return SongMaker(model, SongConfig(), CLASSES, 3.0, 0, "m")


def song_of(maker, sound):
    return maker.song("t", np.full((1, 3), 1 / 3), sound[None], np.zeros(1))


def test_music_unlike_anything_labelled_abstains_however_sure_its_label_is():
    features, labels = sounding(200)
    maker = maker_of(features, labels)
    new, _ = sounding(200, seed=1)
    songs = [song_of(maker, row[6:]) for row in new]
    assert np.mean([song.unlike for song in songs]) <= 0.02
    assert not any(song.abstained for song in songs if not song.unlike)
    far = song_of(maker, np.where(np.arange(12) < 4, 40.0, -40.0))
    assert far.unlike
    assert far.abstained
    assert far.familiarity < min(song.familiarity for song in songs)


def test_a_labelled_track_is_familiar_with_itself():
    features, labels = sounding(60)
    assert song_of(maker_of(features, labels), features[0, 6:]).familiarity == pytest.approx(
        1, abs=1e-6
    )


def test_without_sound_nothing_is_unlike():
    features, labels = labelled(100)
    song = song_of(maker_of(features, labels), np.empty(0))
    assert (song.familiarity, song.unlike) == (None, False)
