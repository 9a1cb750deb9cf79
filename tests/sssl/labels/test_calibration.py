import numpy as np
import pytest

from sssl.labels.calibration import (
    TEMPERATURES,
    fit_temperature,
    log_odds_against,
    losses_by_temperature,
    sharpen,
)


def drawn(sureness, count=4000, seed=0):
    """Labels drawn from posteriors, and those posteriors made surer than they are right."""
    rng = np.random.default_rng(seed)
    right = rng.dirichlet([0.6] * 4, count)
    label = np.array([rng.choice(4, p=p) for p in right])
    return sharpen(np.maximum(right, 1e-6), 1 / sureness), label


@pytest.mark.parametrize("sureness", [0.7, 1.0, 2.5])
def test_the_temperature_undoes_how_much_too_sure_a_model_is(sureness):
    assert fit_temperature(losses_by_temperature(*drawn(sureness))) == pytest.approx(
        sureness, rel=0.1
    )


def test_parts_add_up_and_what_is_missing_does_not_count():
    posterior, label = drawn(2.0)
    whole = losses_by_temperature(posterior, label)
    parts = [
        losses_by_temperature(posterior[rows], label[rows])
        for rows in (slice(1000), slice(1000, None))
    ]
    np.testing.assert_allclose(parts[0] + parts[1], whole, atol=0.01)
    more = np.vstack([posterior, [[np.nan] * 4, [0.7, 0.1, 0.1, 0.1]]])
    np.testing.assert_array_equal(losses_by_temperature(more, np.append(label, [2, -1])), whole)


def test_of_nothing_the_posterior_is_taken_as_it_is():
    assert fit_temperature(None) == 1.0
    assert fit_temperature(losses_by_temperature(np.empty((0, 4)), np.empty(0, int))) == 1.0


def test_labels_that_have_nothing_to_do_with_the_posterior_make_it_as_unsure_as_can_be():
    posterior, label = drawn(1.0)
    assert fit_temperature(losses_by_temperature(posterior, np.roll(label, 7))) == TEMPERATURES[-1]


def test_log_odds_are_those_against_the_label():
    posterior = np.array([[0.8, 0.2], [0.8, 0.2], [np.nan, np.nan], [0.8, 0.2], [1.0, 0.0]])
    found = log_odds_against(posterior, np.array([0, 1, 0, -1, 1]), 1.0)
    np.testing.assert_allclose(found[:4], [np.log(0.25), np.log(4), np.nan, np.nan])
    assert 13 < found[4] < 14  # as far as scores go
    softer = log_odds_against(posterior[:2], np.array([0, 1]), 2.0)
    np.testing.assert_allclose(softer, [np.log(0.5), np.log(2)])


def test_sharpening_at_one_changes_nothing_and_below_moves_mass_to_the_peak():
    p = np.array([[0.5, 0.3, 0.2, 0.0]])
    np.testing.assert_allclose(sharpen(p, 1.0), p)
    assert sharpen(p, 0.5)[0].tolist() == pytest.approx([25 / 38, 9 / 38, 4 / 38, 0])
