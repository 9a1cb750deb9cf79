import numpy as np
import pytest

from sssl.metrics import Bin, Quality, agreement, confusion, quality, reliability, wilson


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


def test_wilson_s_interval_is_the_one_in_the_books():
    # Newcombe (1998), Statistics in Medicine 17, method 3: 81 of 263.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_intervals_of_shares_of_none_and_all_stay_between_0_and_1():
    low, high = wilson([0.0, 1.0], [5, 5])
    assert low == pytest.approx([0.0, 1 / (1 + 1.96**2 / 5)])
    assert high == pytest.approx([1 - low[1], 1.0])


def test_bins_of_a_reliability_curve_have_equal_mass_in_the_order_of_confidence():
    confidence = np.array([0.9, 0.3, 0.5, 0.7, 0.4])
    correct = np.array([True, False, True, True, False])
    assert reliability(confidence, correct, 2) == [
        Bin(3, pytest.approx(0.4), pytest.approx(1 / 3)),
        Bin(2, pytest.approx(0.8), pytest.approx(1.0)),
    ]


def test_fewer_songs_than_bins_make_no_empty_bin():
    assert [
        found.tracks for found in reliability(np.array([0.5, 0.6]), np.array([True, True]), 10)
    ] == [1, 1]
    assert reliability(np.empty(0), np.empty(0, bool), 3) == []


def test_agreement_counts_both_bias_and_scale():
    true = np.linspace(-1, 1, 50)
    exact = agreement(true, true)
    assert (exact.r2, exact.rmse, exact.ccc) == (pytest.approx(1), 0.0, pytest.approx(1))
    by_mean = agreement(true, np.full(50, true.mean()))
    assert (by_mean.r2, by_mean.ccc) == (pytest.approx(0), pytest.approx(0))
    moved = agreement(true, true + 0.5)
    assert moved.rmse == pytest.approx(0.5)
    assert moved.ccc == pytest.approx(2 * true.var() / (2 * true.var() + 0.25))
    assert agreement(true, true / 2).ccc < 1


def test_agreement_with_numbers_that_are_all_the_same_or_none_is_unknown():
    same = agreement(np.ones(3), np.zeros(3))
    assert (same.r2, same.rmse, same.ccc) == (None, 1.0, None)
    assert agreement(np.array([]), np.array([])).rmse is None
