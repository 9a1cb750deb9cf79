import numpy as np
import pytest

from sssl.songs import SongConfig, fit_classifier, statistics, timeline

CLASSES = ("Q1", "Q2", "Q3")


def posterior(peaks, confidence=0.8):
    rows = np.full((len(peaks), 3), (1 - confidence) / 2)
    rows[np.arange(len(peaks)), peaks] = confidence
    return rows


def test_statistics_of_one_segment_are_the_segment():
    row = np.array([[0.7, 0.2, 0.1]])
    log_mean, *others = statistics(row).reshape(7, 3)
    np.testing.assert_allclose(np.exp(log_mean), [0.7, 0.2, 0.1])
    assert [list(other) for other in others] == [
        pytest.approx(v) for v in ([0.7, 0.2, 0.1],) * 3 + ([0, 0, 0], [1, 0, 0], [1, 0, 0])
    ]


def test_statistics_do_not_depend_on_the_order_of_segments():
    rows = posterior([0, 1, 1, 2])
    np.testing.assert_allclose(statistics(rows), statistics(rows[::-1]))


def labelled(count=300, seed=0):
    """Tracks of 8 segments of which 60 % peak at the track's class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    peaks = [np.where(rng.random(8) < 0.6, label, rng.integers(0, 3, 8)) for label in labels]
    return np.array([statistics(posterior(p)) for p in peaks]), labels


def test_the_classifier_learns_and_its_probabilities_are_calibrated():
    classifier = fit_classifier(*labelled(), 3, SongConfig())
    features, labels = labelled(2000, seed=1)
    p = np.array([classifier.probabilities(row) for row in features])
    np.testing.assert_allclose(p.sum(axis=1), 1)
    right = p.argmax(axis=1) == labels
    assert right.mean() > 0.85
    assert abs(p.max(axis=1).mean() - right.mean()) < 0.05


def test_few_tracks_cannot_make_the_label_worse_than_the_mean_posterior():
    features, labels = labelled(20)
    classifier = fit_classifier(features, labels, 3, SongConfig())
    tested, _ = labelled(500, seed=1)
    peaks = [classifier.probabilities(row).argmax() for row in tested]
    assert peaks == tested[:, :3].argmax(axis=1).tolist()


def test_statistics_beyond_the_mean_are_used_where_they_tell_more():
    """A class that shows in a single segment of each of its tracks, which the mean drowns."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    peaks = [np.r_[label, np.zeros(7, int)] for label in labels]
    features = np.array([statistics(posterior(p, rng.uniform(0.6, 0.9))) for p in peaks])
    classifier = fit_classifier(features, labels, 3, SongConfig())
    assert np.mean([classifier.probabilities(row).argmax() for row in features] == labels) > 0.95


def test_two_classes_one_class_and_no_track_work_too():
    features, labels = labelled()
    both = features[labels < 2][:, np.arange(21) % 3 < 2]
    two = fit_classifier(both, labels[labels < 2], 2, SongConfig())
    right = [two.probabilities(row).argmax() for row in both] == labels[labels < 2]
    assert np.mean(right) > 0.85
    for count in (5, 0):
        few = fit_classifier(features[labels == 0][:count], labels[labels == 0][:count], 3, SongConfig())
        assert few.probabilities(statistics(posterior([2, 2, 1]))).argmax() == 2


def test_a_timeline_joins_neighbours_and_covers_the_track():
    start_s = np.arange(6) * 3.0
    entries = timeline(posterior([0, 0, 0, 1, 1, 1]), start_s, 3.0, CLASSES, smooth_segments=1)
    assert [(e["start_s"], e["end_s"], e["label"]) for e in entries] == [(0, 9, "Q1"), (9, 18, "Q2")]
    assert entries[0]["confidence"] == pytest.approx(0.8)


def test_smoothing_removes_a_single_stray_segment():
    start_s = np.arange(7) * 3.0
    entries = timeline(posterior([0, 0, 0, 1, 0, 0, 0]), start_s, 3.0, CLASSES, smooth_segments=3)
    assert [e["label"] for e in entries] == ["Q1"]


def test_a_gap_in_the_segments_is_a_gap_in_the_timeline():
    entries = timeline(posterior([0, 1]), np.array([0.0, 9.0]), 3.0, CLASSES, smooth_segments=1)
    assert [(e["start_s"], e["end_s"]) for e in entries] == [(0, 3), (9, 12)]
