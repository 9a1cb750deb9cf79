"""Two-component mixtures of Gaussians over losses, fitted on histograms: small, mergeable, the same
whoever counts.

A loss lives on one of two axes. `loss` is -log p of the inherited label, as in the paper. `logit`
is log((1-p)/p), a monotone function of it on which the losses of correct labels are close to
normal; on the loss axis their long right tail looks like a second component where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import logsumexp

from sssl.arrays import Floats, Indices

Axis = Literal["loss", "logit"]

MAX_LOSS = 14.0  # -log(LEAST_PROBABILITY), rounded up: scores are float32 and clipped well before
BINS = 1400
_RANGES: dict[Axis, tuple[float, float]] = {"loss": (0.0, MAX_LOSS), "logit": (-MAX_LOSS, MAX_LOSS)}
_MIN_STD = 0.05
_MOST_CORE = 0.9  # of the confident component beside a noisy one
_MAX_ITERATIONS = 2000
_TOLERANCE = 1e-9  # nats per segment
_SLIVER = 0.01  # a component of less is some outliers, not a kind of labels
# So small that they change nothing but logarithms and quotients of 0.
_LEAST_LOSS = 1e-7
_LEAST_WEIGHT = 1e-12
_LEAST_MASS = 1e-9


def to_axis(loss: Floats, axis: Axis) -> Floats:
    """Map losses in nats onto an axis, clipped to its range; NaN stays NaN."""
    low, high = _RANGES[axis]
    if axis == "logit":
        # log((1-p)/p) = -log p + log(1-p), with p = exp(-loss); 0 would become minus infinity.
        positive = np.maximum(loss, _LEAST_LOSS)
        loss = loss + np.log(-np.expm1(-positive))
    clipped = np.clip(loss, low, high)
    return np.asarray(clipped, dtype=np.float64)


def bin_width(axis: Axis) -> float:
    """Return the width of a bin."""
    low, high = _RANGES[axis]
    return (high - low) / BINS


def centers(axis: Axis) -> Floats:
    """Return the bin centers [BINS] of an axis."""
    low, high = _RANGES[axis]
    place = np.arange(BINS) + 0.5
    return low + place * (high - low) / BINS


def bin_of(value: Floats, axis: Axis) -> Indices:
    """Return the bin of finite values on an axis."""
    low, high = _RANGES[axis]
    share = (value - low) / (high - low)
    place = np.clip(share * BINS, 0, BINS - 1)
    return place.astype(np.int64)


def histogram(loss: Floats, axis: Axis) -> Indices:
    """Count losses by bin [BINS], leaving out what is not finite."""
    finite = loss[np.isfinite(loss)]
    bins = bin_of(to_axis(finite, axis), axis)
    return np.bincount(bins, minlength=BINS)


@dataclass(frozen=True)
class Component:
    """One Gaussian of a mixture, on the mixture's axis; `core_share` of its weight may be in a
    narrower one of the same mean."""

    weight: float
    mean: float
    std: float
    core_share: float = 0.0
    core_std: float = 1.0

    def log_density(self, x: Floats) -> Floats:
        """Return the log of weight times density at x."""
        density = _log_normal(x, self.mean, self.std)
        if self.core_share:
            core = _log_normal(x, self.mean, self.core_std)
            core = np.log(self.core_share) + core
            reach_share = max(1 - self.core_share, _LEAST_WEIGHT)
            reach = np.log(reach_share) + density
            density = np.logaddexp(core, reach)
        weight = max(self.weight, _LEAST_WEIGHT)
        return np.asarray(np.log(weight) + density)


@dataclass(frozen=True)
class Mixture:
    """A confident (low-loss) component and, if there is anything to split, a noisy one."""

    axis: Axis
    confident: Component
    noisy: Component | None

    def log_density(self, x: Floats) -> Floats:
        """Return the log of the density at x."""
        confident = self.confident.log_density(x)
        if self.noisy is None:
            return confident
        return np.logaddexp(confident, self.noisy.log_density(x))

    @property
    def parameters(self) -> int:
        """How many numbers were fitted."""
        if self.confident.core_share:
            if self.noisy is None:
                return 4
            return 6
        if self.noisy is None:
            return 2
        return 5

    def clean_probability(self) -> Floats:
        """Return by bin [BINS] the posterior of the confident component: 1 everywhere if it is the
        only one."""
        if self.noisy is None:
            return np.ones(BINS)
        x = centers(self.axis)
        confident = self.confident.log_density(x)
        either = self.log_density(x)
        return np.exp(confident - either)

    def shifted(self, by: float) -> Mixture:
        """Return the mixture moved along its axis."""
        confident = replace(self.confident, mean=self.confident.mean + by)
        noisy = self.noisy
        if noisy is not None:
            noisy = replace(noisy, mean=noisy.mean + by)
        return Mixture(self.axis, confident, noisy)

    @property
    def separation(self) -> float:
        """Distance of the means in units of the mean variance (Ashman's D); above 2 the two are
        clearly apart."""
        if self.noisy is None:
            return 0.0
        distance = self.noisy.mean - self.confident.mean
        mean_variance = (self.confident.std**2 + self.noisy.std**2) / 2
        return float(distance / np.sqrt(mean_variance))


def clip_quantiles(counts: Floats, low: float, high: float) -> Floats:
    """Move what lies beyond the two quantiles to the quantile's bin: no single loss moves the
    fit."""
    total = counts.sum()
    if not total:
        return counts
    cumulative = np.cumsum(counts)
    first = int(np.searchsorted(cumulative, low * total))
    last = int(np.searchsorted(cumulative, high * total))
    bins = np.arange(len(counts))
    return _moved(counts, np.clip(bins, first, last))


def shift(counts: Floats, bins: int) -> Floats:
    """Move a histogram by so many bins; what leaves the axis stays at its end."""
    places = np.arange(len(counts)) + bins
    return _moved(counts, np.clip(places, 0, len(counts) - 1))


def _moved(counts: Floats, to: Indices) -> Floats:
    """Move the count of each bin [BINS] to another."""
    moved = np.zeros_like(counts)
    np.add.at(moved, to, counts)
    return moved


def quantile_bin(counts: Floats, quantile: float) -> int:
    """Return the bin of a quantile."""
    cumulative = np.cumsum(counts)
    wanted = counts.sum() * quantile
    return int(np.searchsorted(cumulative, wanted))


def fit_one(counts: Floats, axis: Axis) -> Mixture:
    """Fit one Gaussian to a histogram."""
    component = _weighted(counts, centers(axis), counts.sum())
    return Mixture(axis, component, None)


def fit_two(counts: Floats, axis: Axis) -> Mixture:
    """Fit two Gaussians to a histogram by expectation maximisation: from two halves and from a body
    with a tail, which end in different optima where the second component is small. The likelier one
    counts."""
    cumulative = np.cumsum(counts) / counts.sum()
    std = fit_one(counts, axis).confident.std
    x = centers(axis)

    def start(weight: float, quantile: float) -> Component:
        mean = x[np.searchsorted(cumulative, quantile)]
        return Component(weight, float(mean), std)

    # The start decides which optimum is found: each kind of histogram has its own.
    halves = _maximize(counts, axis, start(0.5, 0.1), start(0.5, 0.9))
    body_and_tail = _maximize(counts, axis, start(0.9, 0.45), start(0.1, 0.97))
    likelier = max(halves, body_and_tail, key=lambda found: found[0])
    return likelier[1]


def _maximize(counts: Floats, axis: Axis, low: Component, high: Component) -> tuple[float, Mixture]:
    """Return the mean log likelihood and the mixture at the optimum next to a start."""
    x = centers(axis)
    total = counts.sum()
    before = -np.inf
    for _ in range(_MAX_ITERATIONS):
        log_low = low.log_density(x)
        log_high = high.log_density(x)
        either = np.logaddexp(log_low, log_high)
        likelihood = (counts * either).sum()
        now = float(likelihood / total)
        if now - before < _TOLERANCE:
            break
        before = now
        of_low = np.exp(log_low - either)
        of_high = 1 - of_low
        low = _weighted(counts * of_low, x, total)
        high = _weighted(counts * of_high, x, total)
    if high.mean < low.mean:
        low, high = high, low
    return before, Mixture(axis, low, high)


def fit_peaked(counts: Floats, axis: Axis, components: int) -> Mixture:
    """Fit a confident component of two Gaussians with one mean to a histogram, and, with two
    components, a noisy one as wide as the wider of them.

    Losses of right labels peak more and reach further to both sides than one Gaussian does. Between
    two Gaussians of any width the likeliest split is then often one of narrow and wide rather than
    of low and high. For the same reason at least a tenth of the confident component reaches as far
    as the noisy one, if that is wider than its core: free, it shrinks to its core where wrong
    labels are well apart, and leaves the right ones in between to them. Most labels are taken to be
    right: the confident component starts at the median. The noisy one starts once as few segments
    with the highest losses and once as many, which end in different optima where it is small. The
    likelier one that has kept a noisy component counts.
    """
    starts = [(0.0, 0.95)] if components == 1 else [(0.1, 0.95), (0.3, 0.85)]
    found = [_maximize_peaked(counts, axis, *start) for start in starts]

    def rank(one: tuple[float, Mixture]) -> tuple[bool, float]:
        likelihood, mixture = one
        return mixture.noisy is not None, likelihood

    _, best = max(found, key=rank)
    return best


def _maximize_peaked(
    counts: Floats, axis: Axis, noisy_weight: float, quantile: float
) -> tuple[float, Mixture]:
    """Return the mean log likelihood and the mixture at the optimum next to a start, without a
    noisy component if that has no weight or lies below the confident one."""
    x = centers(axis)
    total = counts.sum()
    before = -np.inf
    median = x[quantile_bin(counts, 0.5)]
    high = x[quantile_bin(counts, quantile)]
    std = fit_one(counts, axis).confident.std
    # Rows: core and reach of the confident component, and the noisy one.
    half = (1 - noisy_weight) / 2
    weight = np.array([half, half, noisy_weight])
    mean = np.array([median, median, high])
    variance = np.array([std / 2, std, std]) ** 2
    for _ in range(_MAX_ITERATIONS):
        with np.errstate(divide="ignore"):  # a weight of 0
            log_weight = np.log(weight)
        log_each = log_weight[:, None] + _log_normal(
            x, mean[:, None], np.sqrt(variance)[:, None]
        )  # [3, BINS]
        either = logsumexp(log_each, axis=0)
        likelihood = (counts * either).sum()
        now = float(likelihood / total)
        if now - before < _TOLERANCE:
            break
        before = now
        mass = counts * np.exp(log_each - either)
        share = np.maximum(mass.sum(axis=1), _LEAST_MASS)
        # Core and reach have one mean: that of both, each weighted by how narrow it is.
        precision = share[:2] / variance[:2]
        weighted = mass[:2] @ x / variance[:2]
        mean[:2] = weighted.sum() / precision.sum()
        mean[2] = mass[2] @ x / share[2]
        distance = x - mean[:, None]  # [3, BINS]
        squares = (mass * distance**2).sum(axis=1)
        # Reach and noisy component have one variance.
        variance[0] = squares[0] / share[0]
        variance[1:] = squares[1:].sum() / share[1:].sum()
        weight = mass.sum(axis=1) / total
        variance = np.maximum(variance, _MIN_STD**2)
        confident_weight = weight[:2].sum()
        is_narrower = variance[0] < variance[1]
        if noisy_weight and is_narrower and weight[0] > _MOST_CORE * confident_weight:
            weight[:2] = confident_weight * np.array([_MOST_CORE, 1 - _MOST_CORE])
    core, reach, noisy = weight.tolist()
    core_std, std = np.sqrt(variance[:2]).tolist()
    right_mean, _, wrong_mean = mean.tolist()
    both = core + reach
    confident = Component(both, right_mean, std, core / both, core_std)
    if not noisy_weight or wrong_mean <= right_mean:
        return before, Mixture(axis, replace(confident, weight=1.0), None)
    return before, Mixture(axis, confident, Component(noisy, wrong_mean, std))


def prefers_two(counts: Floats, one: Mixture, two: Mixture, min_separation: float = 0.0) -> bool:
    """Decide whether two components are there: better by BIC than one, apart, and neither of them a
    sliver."""
    if two.noisy is None:
        return False
    smaller = min(two.noisy.weight, two.confident.weight)
    if smaller < _SLIVER:
        return False
    x = centers(two.axis)
    gain_by_bin = two.log_density(x) - one.log_density(x)
    gain = (counts * gain_by_bin).sum()
    more = two.parameters - one.parameters
    # The Bayesian information criterion, halved: nats of likelihood that parameters must bring.
    penalty = 0.5 * more * np.log(counts.sum())
    return bool(gain > penalty and two.separation > min_separation)


def monotone(clean_probability: Floats, confident_bin: int) -> Floats:
    """Make a posterior non-increasing in the loss, from the confident component's mean to either
    side: a wider noisy component must not win on both, and where neither has any mass the posterior
    says nothing."""
    easier = clean_probability[: confident_bin + 1]
    harder = clean_probability[confident_bin:]
    # From the mean outwards: up towards lower losses, down towards higher ones.
    outwards = np.maximum.accumulate(easier[::-1])
    below = outwards[:0:-1]  # the mean itself is in `harder`
    above = np.minimum.accumulate(harder)
    return np.concatenate([below, above])


def _log_normal(x: Floats, mean: Floats | float, std: Floats | float) -> Floats:
    """Return the log density of a normal distribution at x."""
    standardised = (x - mean) / std
    density = -0.5 * standardised**2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    return np.asarray(density)


def _weighted(mass: Floats, x: Floats, total: float) -> Component:
    """Return the Gaussian of the mass [BINS] at x, with its share of the total as weight."""
    share = max(float(mass.sum()), _LEAST_MASS)
    mean = float((mass * x).sum() / share)
    squares = mass * (x - mean) ** 2
    std = float(np.sqrt(squares.sum() / share))
    return Component(share / total, mean, max(std, _MIN_STD))
