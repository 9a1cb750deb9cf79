"""What the families of measures share says the same as the plain expression for it."""

import numpy as np
import pytest

from sssl.audio.spectra import are_peaks, counted, over_frames, ratio, statistics

VALUES = np.random.default_rng(0).normal(size=(3, 40, 5)).astype(np.float32)


def test_peaks_are_found_within_frames_and_never_at_their_ends():
    """The last of a frame and the first of the next are higher than both that they lie between."""
    frames = np.array([[[0, 2, 1, 1, 9], [8, 1, 3, 3, 0], [7, 7, 7, 7, 7]]], np.float32)
    expected = [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(are_peaks(frames)[0], np.array(expected, bool))


@pytest.mark.parametrize("size", [1, 2, 300])
def test_flags_are_counted_by_row(size):
    flags = np.random.default_rng(0).random((2, 7, size)) < 0.9
    np.testing.assert_array_equal(counted(flags), flags.sum(axis=2))


def test_statistics_are_mean_deviation_and_step():
    by_band = over_frames(VALUES).reshape(3, 5, 3)
    np.testing.assert_allclose(by_band[:, :, 0], VALUES.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(by_band[:, :, 1], VALUES.std(axis=1), atol=1e-6)
    steps = np.abs(np.diff(VALUES, axis=1)).mean(axis=1)
    np.testing.assert_allclose(by_band[:, :, 2], steps, atol=1e-6)
    by_name = statistics({"one": VALUES[:, :, 0], "other": VALUES[:, :, 4]})
    np.testing.assert_allclose(by_name["other"], by_band[:, 4], atol=1e-6)


def test_a_single_frame_neither_deviates_nor_moves():
    np.testing.assert_array_equal(over_frames(VALUES[:, :1, :1])[:, 1:], 0)


def test_nothing_divided_by_nothing_is_nothing():
    part, whole = np.array([[3.0, 0.0, 2.0]], np.float32), np.array([[2.0, 0.0, 1e-12]], np.float32)
    np.testing.assert_array_equal(ratio(part, whole), [[1.5, 0, 0]])
