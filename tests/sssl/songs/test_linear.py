"""The opinion of an embedding, by itself and in the pool."""

import numpy as np
import pytest

from schemas.records import dump, load
from sssl.songs.classifier import (
    EMBEDDING,
    OPINIONS,
    LabelledTracks,
    SongClassifier,
    SongModel,
    fit_classifier,
    fit_songs,
)
from sssl.songs.linear import fit_linear, mean_embedding
from sssl.songs.settings import SongConfig
from sssl.songs.softmax import statistics

CLASSES, DIMENSION = 3, 200


def embedded(count, told, seed=0):
    """Labels [N], folds [N] and embeddings [N, D] that tell of the class in ten dimensions."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    centres = np.random.default_rng(99).normal(0, told, (CLASSES, 10))
    found = rng.normal(0, 1, (count, DIMENSION))
    found[:, :10] += centres[labels]
    return labels, np.arange(count) % 5, found


def tracks(count, told, seed=0, with_embeddings=True):
    """Tracks whose posteriors are right for half of their segments."""
    labels, folds, found = embedded(count, told, seed)
    rng = np.random.default_rng(seed + 1)
    features = []
    for label in labels:
        peaks = np.where(rng.random(6) < 0.5, label, rng.integers(0, CLASSES, 6))
        rows = np.full((6, CLASSES), 0.1)
        rows[np.arange(6), peaks] = 0.8
        features.append(statistics(rows, np.empty((6, 0))))
    return LabelledTracks(np.array(features), labels, folds, found if with_embeddings else None)


def test_it_learns_what_an_embedding_tells_and_is_calibrated():
    labels, folds, found = embedded(300, told=1.0)
    linear = fit_linear(found, labels, folds, CLASSES)
    others, _, new = embedded(2000, told=1.0, seed=5)
    p = np.exp(linear.log_probabilities(new))
    np.testing.assert_allclose(p.sum(axis=1), 1)
    right = p.argmax(axis=1) == others
    assert right.mean() > 0.8
    assert abs(p.max(axis=1).mean() - right.mean()) < 0.08


def test_the_unit_of_an_embedding_does_not_matter():
    labels, folds, found = embedded(100, told=1.0)
    as_it_is = fit_linear(found, labels, folds, CLASSES).log_probabilities(found)
    scaled = fit_linear(1000 * found + 5, labels, folds, CLASSES).log_probabilities(
        1000 * found + 5
    )
    np.testing.assert_allclose(scaled, as_it_is, atol=1e-3)


def test_a_track_without_an_embedding_gets_an_opinion_of_nothing_and_is_not_learned_from():
    labels, folds, found = embedded(100, told=1.0)
    found[::4] = np.nan
    linear = fit_linear(found, labels, folds, CLASSES)
    np.testing.assert_allclose(np.exp(linear.log_probabilities(found)[::4]), 1 / CLASSES)
    known = np.isfinite(found).all(axis=1)
    alone = fit_linear(found[known], labels[known], folds[known], CLASSES)
    assert linear == alone


def test_without_any_embedding_it_says_nothing():
    labels, folds, found = embedded(20, told=1.0)
    linear = fit_linear(np.full_like(found, np.nan), labels, folds, CLASSES)
    np.testing.assert_allclose(np.exp(linear.log_probabilities(found)), 1 / CLASSES)


def test_music_far_from_all_that_was_learned_is_bounded():
    labels, folds, found = embedded(300, told=1.0)
    linear = fit_linear(found, labels, folds, CLASSES)
    far = linear.log_probabilities(1e6 * np.ones((1, DIMENSION)))
    np.testing.assert_allclose(far, linear.log_probabilities(1e9 * np.ones((1, DIMENSION))))


def test_the_mean_of_segments_leaves_out_those_without():
    rows = np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]])
    np.testing.assert_allclose(mean_embedding(rows), [2, 3])
    assert np.isnan(mean_embedding(rows[1:2])).all()


@pytest.fixture(scope="module")
def pool():
    return fit_classifier(tracks(300, told=1.0), CLASSES, SongConfig())


def test_an_embedding_that_tells_more_makes_labels_better(pool):
    by_name = {part.name: part for part in pool.parts}
    assert list(by_name) == [*OPINIONS, EMBEDDING, "pool"]
    assert by_name[EMBEDDING].weight > 0.3
    without = fit_classifier(tracks(300, told=1.0, with_embeddings=False), CLASSES, SongConfig())
    assert by_name["pool"].log_loss < without.parts[-1].log_loss - 0.1
    new = tracks(1000, told=1.0, seed=7)
    with_it = (
        pool.classifier.probabilities(new.features, new.embeddings).argmax(axis=1) == new.labels
    )
    without_it = without.classifier.probabilities(new.features).argmax(axis=1) == new.labels
    assert with_it.mean() > without_it.mean() + 0.03


def test_an_embedding_that_tells_nothing_counts_for_nothing():
    found = fit_classifier(tracks(300, told=0.0), CLASSES, SongConfig())
    without = fit_classifier(tracks(300, told=0.0, with_embeddings=False), CLASSES, SongConfig())
    by_name = {part.name: part for part in found.parts}
    assert by_name["pool"].log_loss < without.parts[-1].log_loss + 0.01
    new = tracks(1000, told=0.0, seed=7)
    with_it = found.classifier.probabilities(new.features, new.embeddings)
    without_it = without.classifier.probabilities(new.features)
    assert (with_it.argmax(axis=1) == without_it.argmax(axis=1)).mean() > 0.97


def test_a_pool_without_embeddings_is_what_it_was():
    found = fit_classifier(tracks(100, told=1.0, with_embeddings=False), CLASSES, SongConfig())
    assert found.classifier.linear is None
    assert len(found.classifier.weights) == 3
    assert "linear" not in dump(found.classifier)


def test_a_track_without_an_embedding_is_labelled_by_the_others(pool):
    new = tracks(50, told=1.0, seed=7)
    nothing = np.full_like(new.embeddings, np.nan)
    p = pool.classifier.probabilities(new.features, nothing)
    np.testing.assert_allclose(p, pool.classifier.probabilities(new.features))
    assert (p.argmax(axis=1) == new.labels).mean() > 0.5


def test_held_out_tracks_are_fitted_to_with_their_embeddings_and_the_model_is_json():
    model = fit_songs(tracks(60, told=1.0), tracks(20, told=1.0, seed=3), CLASSES, SongConfig())
    again = load(SongModel, dump(model))
    assert isinstance(again.classifier, SongClassifier)
    assert again == model
    assert model.classifier.linear != model.held_out_classifier.linear
