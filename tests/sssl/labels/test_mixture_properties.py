"""What holds for every histogram of losses, whatever its shape."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sssl.labels import mixture as mix

AXES = st.sampled_from(["loss", "logit"])
LOSSES = arrays.arrays(
    np.float64, st.integers(2, 80), elements=st.floats(0, 20, allow_nan=False) | st.just(np.nan)
)


def finite(loss):
    return loss[np.isfinite(loss)]


@given(LOSSES, AXES)
def test_each_finite_loss_is_counted_once(loss, axis):
    assert mix.histogram(loss, axis).sum() == len(finite(loss))


@given(LOSSES, LOSSES, AXES)
def test_histograms_of_parts_add_up_to_that_of_all(one, other, axis):
    together = mix.histogram(np.append(one, other), axis)
    assert (mix.histogram(one, axis) + mix.histogram(other, axis) == together).all()


@given(LOSSES, AXES, st.integers(-2000, 2000))
def test_neither_a_shift_nor_a_clip_loses_a_segment(loss, axis, bins):
    counts = mix.histogram(loss, axis).astype(float)
    assert mix.shift(counts, bins).sum() == counts.sum()
    assert mix.clip_quantiles(counts, 0.01, 0.99).sum() == counts.sum()


@given(LOSSES.filter(lambda loss: len(finite(loss)) > 1), AXES)
def test_a_fitted_mixture_is_a_density_whose_posterior_is_a_probability(loss, axis):
    counts = mix.histogram(loss, axis).astype(float)
    for fitted in (mix.fit_two(counts, axis), mix.fit_peaked(counts, axis, 2)):
        weight = fitted.confident.weight
        if fitted.noisy is not None:
            assert fitted.confident.mean <= fitted.noisy.mean
            weight += fitted.noisy.weight
        assert np.isclose(weight, 1)
        clean = fitted.clean_probability()
        assert np.isfinite(clean).all()
        assert clean.min() >= 0
        assert clean.max() <= 1 + 1e-12


@given(arrays.arrays(np.float64, mix.BINS, elements=st.floats(0, 1)), st.integers(0, mix.BINS - 1))
def test_a_monotone_posterior_never_rises_with_the_loss(clean, confident_bin):
    made = mix.monotone(clean, confident_bin)
    assert made.shape == clean.shape
    assert (np.diff(made) <= 0).all()
    assert made[confident_bin] == clean[confident_bin]
