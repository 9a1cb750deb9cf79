"""The classifier on what segments sound like: cross-fitted, from sums that add up, and as loud as
it is right."""

import functools
import operator

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from sssl.labels.calibration import sharpen
from sssl.labels.sound_classifier import (
    SHARES,
    ClassSums,
    Scale,
    ScaleSums,
    SecondOpinion,
    fit_classifier,
    fit_scale,
    fit_share,
    losses_by_share,
)

FOLDS, CLASSES, NUMBERS = 3, 4, 6


def segments(apart, seed=0, number=600):
    """Sound [N, K] whose classes are so many standard deviations apart, label [N] and fold [N]."""
    random = np.random.default_rng(seed)
    label = random.integers(0, CLASSES, number)
    places = random.normal(0, apart, (CLASSES, NUMBERS))
    sound = 100 * np.arange(1, NUMBERS + 1) + 10 * (
        places[label] + random.normal(size=(number, NUMBERS))
    )
    return sound, label, random.integers(0, FOLDS, number)


def classifier_of(sound, label, fold):
    scale = fit_scale(ScaleSums.of(sound))
    sums = ClassSums.of(scale.standardized(sound), label, fold, FOLDS, CLASSES)
    return fit_classifier(sums, scale)


def guesses(label, right, seed=1):
    """Posteriors [N, C] of a network that is right so often."""
    random = np.random.default_rng(seed)
    said = np.where(
        random.random(len(label)) < right, label, random.integers(0, CLASSES, len(label))
    )
    return sharpen(np.eye(CLASSES)[said] + 0.2, 1.0)


def reference(z, label):
    """The same discriminant by scikit-learn."""
    priors = np.bincount(label) / len(label)
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.6, priors=priors).fit(z, label)


def test_each_fold_is_judged_by_what_the_others_tell():
    sound, label, fold = segments(apart=1.0)
    classifier = classifier_of(sound, label, fold)
    found = classifier.posteriors(sound, fold)
    z = classifier.scale.standardized(sound)
    for number in range(FOLDS):
        own = fold == number
        expected = reference(z[~own], label[~own]).predict_proba(z[own])
        np.testing.assert_allclose(found[own], expected, atol=0.01)


def test_tracks_in_no_fold_are_judged_by_what_all_folds_tell():
    sound, label, fold = segments(apart=1.0)
    classifier = classifier_of(sound, label, fold)
    z = classifier.scale.standardized(sound)
    found = classifier.posteriors(sound, np.full(len(fold), -1))
    np.testing.assert_allclose(found, reference(z, label).predict_proba(z), atol=0.01)


def test_tracks_of_a_fold_that_came_later_are_judged_as_those_in_none():
    sound, label, fold = segments(apart=1.0)
    classifier = classifier_of(sound, label, fold)
    later, nowhere = np.full(len(fold), FOLDS + 1), np.full(len(fold), -1)
    np.testing.assert_array_equal(
        classifier.posteriors(sound, later), classifier.posteriors(sound, nowhere)
    )


def test_parts_tell_the_same_in_any_order():
    sound, label, fold = segments(apart=1.0)
    scale = fit_scale(ScaleSums.of(sound))
    rows = np.array_split(np.arange(len(label)), 7)
    parts = [
        ClassSums.of(scale.standardized(sound[own]), label[own], fold[own], FOLDS, CLASSES)
        for own in rows
    ]
    scales = [ScaleSums.of(sound[own]) for own in rows]
    for name, there, back in [
        (name, functools.reduce(operator.add, parts), functools.reduce(operator.add, parts[::-1]))
        for name in ("count", "total", "outer")
    ]:
        np.testing.assert_array_equal(getattr(there, name), getattr(back, name))
    there, back = (fit_scale(functools.reduce(operator.add, p)) for p in (scales, scales[::-1]))
    np.testing.assert_array_equal(there.mean, back.mean)
    np.testing.assert_array_equal(there.std, back.std)


@pytest.mark.parametrize(("apart", "least", "most"), [(0.0, 0, 5), (0.3, 20, 150), (3.0, 200, 700)])
def test_it_counts_as_much_as_it_makes_left_out_labels_likelier(apart, least, most):
    sound, label, fold = segments(apart)
    posterior = guesses(label, right=0.5)
    classifier = classifier_of(sound, label, fold)
    losses = losses_by_share(posterior, classifier.posteriors(sound, fold), label)
    gained = losses[0].min() - losses.min()  # nats, of 600 segments
    assert least <= gained <= most
    temperature, second = fit_share(losses, classifier)
    if apart:
        mixed = sharpen(second.mixed(posterior, sound, fold), temperature)
        loss = -np.log(mixed[np.arange(len(label)), label]).sum()
        assert loss == pytest.approx(losses.min(), rel=1e-3)


def test_without_a_classifier_the_temperature_alone_is_fitted():
    _, label, _ = segments(apart=1.0)
    posterior = guesses(label, right=0.7)
    losses = losses_by_share(posterior, None, label)
    assert len(losses) == 1
    temperature, second = fit_share(losses, None)
    assert second is None
    assert temperature > 0
    assert fit_share(None, None) == (1.0, None)


def test_a_network_without_a_posterior_is_not_replaced():
    sound, label, fold = segments(apart=1.0)
    posterior = guesses(label, right=0.7)
    posterior[3] = np.nan
    second = SecondOpinion(classifier_of(sound, label, fold), float(SHARES[5]))
    mixed = second.mixed(posterior, sound, fold)
    assert np.isnan(mixed[3]).all()
    assert np.isfinite(np.delete(mixed, 3, axis=0)).all()


def test_numbers_that_never_change_and_classes_that_a_fold_alone_has_do_no_harm():
    sound, label, fold = segments(apart=1.0)
    sound[:, 2] = 7.0
    only = label == 3
    fold[only] = 1
    found = classifier_of(sound, label, fold).posteriors(sound, fold)
    assert np.isfinite(found).all()
    # The other folds have never heard it.
    assert found[only, 3].mean() < 0.02
    still = np.zeros((600, NUMBERS))
    assert np.isfinite(classifier_of(still, label, fold).posteriors(still, fold)).all()


def test_where_nothing_is_left_out_there_is_none():
    assert fit_scale(None) is None
    assert fit_scale(ScaleSums.of(np.ones((1, NUMBERS)))) is None
    scale = Scale(np.zeros(NUMBERS), np.ones(NUMBERS))
    assert fit_classifier(None, scale) is None
    sound, label, fold = segments(apart=1.0)
    one_fold = np.zeros_like(fold)
    sums = ClassSums.of(scale.standardized(sound), label, one_fold, FOLDS, CLASSES)
    assert fit_classifier(sums, scale) is None
