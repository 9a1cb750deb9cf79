import numpy as np
import pytest

from sssl.labels import mixture as mix


def normal(mean, std, count, seed=0):
    return np.random.default_rng(seed).normal(mean, std, count)


def counts(values, axis="logit"):
    return np.bincount(mix.bin_of(np.clip(values, -14, 14), axis), minlength=mix.BINS).astype(float)


def test_the_two_components_are_found_again():
    fitted = mix.fit_two(
        counts(np.concatenate([normal(-3, 1, 7000), normal(2, 0.8, 3000, 1)])), "logit"
    )
    assert fitted.confident.mean == pytest.approx(-3, abs=0.1)
    assert fitted.noisy.mean == pytest.approx(2, abs=0.1)
    assert fitted.noisy.weight == pytest.approx(0.3, abs=0.02)


def test_two_components_are_preferred_only_where_they_are():
    one = counts(normal(-2, 1.5, 10_000))
    two = counts(np.concatenate([normal(-3, 1, 7000), normal(2, 0.8, 3000, 1)]))
    for fits in (
        lambda counts: (mix.fit_one(counts, "logit"), mix.fit_two(counts, "logit")),
        lambda counts: [mix.fit_peaked(counts, "logit", components) for components in (1, 2)],
    ):
        assert not mix.prefers_two(one, *fits(one), min_separation=2.0)
        assert mix.prefers_two(two, *fits(two), min_separation=2.0)


def test_losses_with_a_peak_and_long_tails_are_not_split_into_narrow_and_wide():
    body = np.concatenate([normal(-1, 0.4, 5000), normal(-1, 1.4, 4000, 1)])
    wrong = normal(3, 1.2, 1000, 2)
    histogram = counts(np.append(body, wrong))
    assert mix.fit_two(histogram, "logit").noisy.weight > 0.35
    fitted = mix.fit_peaked(histogram, "logit", 2)
    assert fitted.noisy.weight == pytest.approx(0.1, abs=0.02)
    assert (fitted.confident.mean, fitted.noisy.mean) == pytest.approx((-1, 3), abs=0.2)
    assert (fitted.confident.core_std, fitted.confident.std) == pytest.approx((0.4, 1.4), abs=0.1)


def test_right_labels_between_the_core_and_wrong_ones_are_not_left_to_these(monkeypatch):
    """Losses of right labels that reach further up than down, as the demo's do."""
    rng = np.random.default_rng(0)
    body = -0.7 + 0.4 * np.append(-np.abs(rng.normal(0, 1, 2900)), np.abs(rng.standard_t(4, 2900)))
    values, is_wrong = np.append(body, normal(2.2, 1.2, 1000)), np.arange(6800) >= 5800

    def found():
        """Precision and recall."""
        fitted = mix.fit_peaked(counts(values), "logit", 2)
        clean = mix.monotone(
            fitted.clean_probability(), int(mix.bin_of(np.array(fitted.confident.mean), "logit"))
        )
        noisy = clean[mix.bin_of(values, "logit")] <= 0.5
        return is_wrong[noisy].mean(), noisy[is_wrong].mean()

    assert found() == pytest.approx((0.9, 0.9), abs=0.03)
    monkeypatch.setattr(mix, "_MOST_CORE", 1.0)
    assert found()[0] < 0.86


def test_a_start_that_loses_its_noisy_component_does_not_stand_for_two():
    """The likelihood of a noisy component below the confident one is not that of the single one
    which is left."""
    histogram = counts(
        np.concatenate([normal(0, 0.8, 210), normal(-4.6, 0.8, 147, 1), normal(4, 0.8, 47, 2)])
    )
    one, two = (mix.fit_peaked(histogram, "logit", components) for components in (1, 2))
    assert mix.prefers_two(histogram, one, two)


def test_one_absurd_loss_does_not_move_the_fit():
    values = np.concatenate([normal(-3, 0.5, 700), normal(1, 0.5, 300, 1)])
    clean = mix.fit_two(mix.clip_quantiles(counts(values), 0.005, 0.995), "logit")
    outlier = mix.fit_two(
        mix.clip_quantiles(counts(np.append(values, 14.0)), 0.005, 0.995), "logit"
    )
    assert outlier.noisy.mean == pytest.approx(clean.noisy.mean, abs=0.05)


def test_clipping_keeps_the_number_of_losses():
    values = counts(normal(0, 3, 5000))
    assert mix.clip_quantiles(values, 0.01, 0.99).sum() == 5000


def test_a_posterior_becomes_monotone_without_losing_its_peak():
    wide_noisy = mix.Mixture(
        "logit", mix.Component(0.5, 0.0, 0.5), mix.Component(0.5, 1.0, 3.0)
    ).clean_probability()
    assert (np.diff(wide_noisy) > 0).any()
    fixed = mix.monotone(wide_noisy, int(mix.bin_of(np.array(0.0), "logit")))
    assert (np.diff(fixed) <= 0).all()
    assert fixed.max() == wide_noisy.max()


def test_a_posterior_between_the_components_tails_says_nothing():
    """Two components of nearly the same reach: far to the left the confident one wins by nothing,
    nearer the noisy one does, and what is easiest of all would be called wrong."""
    confident = mix.Component(0.8, -0.4, 1.1, core_share=1 - 1e-6, core_std=0.4)
    clean = mix.Mixture("logit", confident, mix.Component(0.2, 1.1, 1.1)).clean_probability()
    mean, easy = (int(mix.bin_of(np.array(x), "logit")) for x in (-0.4, -2.5))
    assert clean[easy] < 0.1 < 0.9 < clean[mean]
    assert clean[0] > 0.99
    fixed = mix.monotone(clean, mean)
    assert fixed[easy] >= fixed[mean] == clean[mean]
    assert (np.diff(fixed) <= 0).all()


def test_the_logit_axis_keeps_the_order_of_losses():
    loss = np.array([1e-9, 0.01, 0.5, np.log(2), 3.0, 20.0])
    x = mix.to_axis(loss, "logit")
    assert (np.diff(x) > 0).all()
    assert x[3] == pytest.approx(0.0, abs=1e-9)  # p = 1/2


def test_losses_that_are_not_finite_are_not_counted():
    assert mix.histogram(np.array([0.1, np.nan, np.inf, 2.0]), "loss").sum() == 2


def test_a_shifted_histogram_keeps_its_mass_within_the_axis():
    histogram = np.zeros(mix.BINS)
    histogram[[0, 700, mix.BINS - 1]] = 1, 4, 2
    moved = mix.shift(histogram, 10)
    assert moved[[10, 710, mix.BINS - 1]].tolist() == [1, 4, 2]
    assert mix.shift(histogram, -10)[[0, 690, mix.BINS - 11]].tolist() == [1, 4, 2]
    assert mix.quantile_bin(moved, 0.5) - mix.quantile_bin(histogram, 0.5) == 10


def test_a_shifted_mixture_fits_the_shifted_histogram():
    mixture = mix.fit_two(
        counts(np.concatenate([normal(-3, 1, 700), normal(2, 1.2, 300)])), "logit"
    )
    bins = 50
    moved = mixture.shifted(bins * mix.bin_width("logit"))
    np.testing.assert_allclose(
        moved.clean_probability()[bins:], mixture.clean_probability()[:-bins], atol=1e-9
    )


def test_a_small_component_close_by_is_found():
    """It takes hundreds of iterations to tell it from a tail."""
    fitted = mix.fit_two(
        counts(np.concatenate([normal(-0.4, 0.9, 640), normal(2.6, 0.9, 70, seed=1)])), "logit"
    )
    assert fitted.separation > 2
    assert 0.05 < fitted.noisy.weight < 0.2
