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
from numpy.typing import NDArray
from scipy.special import logsumexp

Floats = NDArray[np.float64]
Axis = Literal["loss", "logit"]

MAX_LOSS = 14.0  # -log(1e-6), rounded up: scores are float32 and clipped well before
BINS = 1400
_RANGES: dict[Axis, tuple[float, float]] = {"loss": (0.0, MAX_LOSS), "logit": (-MAX_LOSS, MAX_LOSS)}
_MIN_STD = 0.05
_MOST_CORE = 0.9  # of the confident component beside a noisy one
_MAX_ITERATIONS = 2000
_TOLERANCE = 1e-9  # nats a segment


def to_axis(loss: Floats, axis: Axis) -> Floats:
    """Map losses in nats onto an axis, clipped to its range; NaN stays NaN."""
    low, high = _RANGES[axis]
    if axis == "logit":
        loss = loss + np.log(-np.expm1(-np.maximum(loss, 1e-7)))
    return np.asarray(np.clip(loss, low, high), dtype=np.float64)


def bin_width(axis: Axis) -> float:
    """Return the width of a bin."""
    low, high = _RANGES[axis]
    return (high - low) / BINS


def centers(axis: Axis) -> Floats:
    """Return the bin centers [BINS] of an axis."""
    low, high = _RANGES[axis]
    return low + (np.arange(BINS) + 0.5) * (high - low) / BINS


def bin_of(value: Floats, axis: Axis) -> NDArray[np.int64]:
    """Return the bin of finite values on an axis."""
    low, high = _RANGES[axis]
    return np.clip((value - low) / (high - low) * BINS, 0, BINS - 1).astype(np.int64)


def histogram(loss: Floats, axis: Axis) -> NDArray[np.int64]:
    """Count losses by bin [BINS], leaving out what is not finite."""
    return np.bincount(bin_of(to_axis(loss[np.isfinite(loss)], axis), axis), minlength=BINS)


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
        wide = _log_normal(x, self.mean, self.std)
        if self.core_share:
            core = np.log(self.core_share) + _log_normal(x, self.mean, self.core_std)
            wide = np.logaddexp(core, np.log(max(1 - self.core_share, 1e-12)) + wide)
        return np.asarray(np.log(max(self.weight, 1e-12)) + wide)


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
        return np.exp(self.confident.log_density(x) - self.log_density(x))

    def shifted(self, by: float) -> Mixture:
        """Return the mixture moved along its axis."""
        noisy = self.noisy and replace(self.noisy, mean=self.noisy.mean + by)
        return Mixture(self.axis, replace(self.confident, mean=self.confident.mean + by), noisy)

    @property
    def separation(self) -> float:
        """Distance of the means in units of the mean variance (Ashman's D); above 2 the two are
        clearly apart."""
        if self.noisy is None:
            return 0.0
        return float(
            (self.noisy.mean - self.confident.mean)
            / np.sqrt((self.confident.std**2 + self.noisy.std**2) / 2)
        )


def clip_quantiles(counts: Floats, low: float, high: float) -> Floats:
    """Move what lies beyond the two quantiles to the quantile's bin: no single loss moves the
    fit."""
    total = counts.sum()
    if not total:
        return counts
    cumulative = np.cumsum(counts)
    first = int(np.searchsorted(cumulative, low * total))
    last = int(np.searchsorted(cumulative, high * total))
    clipped = np.zeros_like(counts)
    np.add.at(clipped, np.clip(np.arange(len(counts)), first, last), counts)
    return clipped


def shift(counts: Floats, bins: int) -> Floats:
    """Move a histogram by so many bins; what leaves the axis stays at its end."""
    moved = np.zeros_like(counts)
    np.add.at(moved, np.clip(np.arange(len(counts)) + bins, 0, len(counts) - 1), counts)
    return moved


def quantile_bin(counts: Floats, quantile: float) -> int:
    """Return the bin of a quantile."""
    return int(np.searchsorted(np.cumsum(counts), counts.sum() * quantile))


def fit_one(counts: Floats, axis: Axis) -> Mixture:
    """Fit one Gaussian to a histogram."""
    return Mixture(axis, _weighted(counts, centers(axis), counts.sum()), None)


def fit_two(counts: Floats, axis: Axis) -> Mixture:
    """Fit two Gaussians to a histogram by expectation maximisation: from two halves and from a body
    with a tail, which end in different optima where the second component is small. The likelier one
    counts."""
    cumulative = np.cumsum(counts) / counts.sum()
    one = fit_one(counts, axis).confident
    starts = [
        [
            Component(weight, float(centers(axis)[np.searchsorted(cumulative, quantile)]), one.std)
            for weight, quantile in s
        ]
        for s in (((0.5, 0.1), (0.5, 0.9)), ((0.9, 0.45), (0.1, 0.97)))
    ]
    return max((_maximize(counts, axis, *start) for start in starts), key=lambda found: found[0])[1]


def _maximize(counts: Floats, axis: Axis, low: Component, high: Component) -> tuple[float, Mixture]:
    """Return the mean log likelihood and the mixture at the optimum next to a start."""
    x = centers(axis)
    total = counts.sum()
    before = -np.inf
    for _ in range(_MAX_ITERATIONS):
        log_low = low.log_density(x)
        log_high = high.log_density(x)
        either = np.logaddexp(log_low, log_high)
        now = float((counts * either).sum() / total)
        if now - before < _TOLERANCE:
            break
        before = now
        responsibility = np.exp(log_low - either)
        low = _weighted(counts * responsibility, x, total)
        high = _weighted(counts * (1 - responsibility), x, total)
    return before, Mixture(axis, *sorted((low, high), key=lambda component: component.mean))


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
    return max(found, key=lambda one: (one[1].noisy is not None, one[0]))[1]


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
    # Core, reach, noisy.
    weight = np.array([(1 - noisy_weight) / 2, (1 - noisy_weight) / 2, noisy_weight])
    mean = np.array([median, median, high])
    variance = np.array([std / 2, std, std]) ** 2
    for _ in range(_MAX_ITERATIONS):
        with np.errstate(divide="ignore"):  # a weight of 0
            log_each = np.log(weight)[:, None] + _log_normal(
                x, mean[:, None], np.sqrt(variance)[:, None]
            )
        either = logsumexp(log_each, axis=0)
        now = float((counts * either).sum() / total)
        if now - before < _TOLERANCE:
            break
        before = now
        mass = counts * np.exp(log_each - either)
        share = np.maximum(mass.sum(axis=1), 1e-9)
        mean[:2] = (mass[:2] @ x / variance[:2]).sum() / (share[:2] / variance[:2]).sum()
        mean[2] = mass[2] @ x / share[2]
        squares = (mass * (x - mean[:, None]) ** 2).sum(axis=1)
        variance[0] = squares[0] / share[0]
        variance[1:] = squares[1:].sum() / share[1:].sum()
        weight = mass.sum(axis=1) / total
        variance = np.maximum(variance, _MIN_STD**2)
        if noisy_weight and variance[0] < variance[1] and weight[0] > _MOST_CORE * weight[:2].sum():
            weight[:2] = weight[:2].sum() * np.array([_MOST_CORE, 1 - _MOST_CORE])
    core, reach, noisy = (float(w) for w in weight)
    core_std, std = (float(v) for v in np.sqrt(variance[:2]))
    confident = Component(core + reach, float(mean[0]), std, core / (core + reach), core_std)
    if not noisy_weight or mean[2] <= mean[0]:
        return before, Mixture(axis, replace(confident, weight=1.0), None)
    return before, Mixture(axis, confident, Component(noisy, float(mean[2]), std))


def prefers_two(counts: Floats, one: Mixture, two: Mixture, min_separation: float = 0.0) -> bool:
    """Decide whether two components are there: better by BIC than one, apart, and neither of them a
    sliver."""
    if two.noisy is None or min(two.noisy.weight, two.confident.weight) < 0.01:
        return False
    x = centers(two.axis)
    gain = (counts * (two.log_density(x) - one.log_density(x))).sum()
    penalty = 0.5 * (two.parameters - one.parameters) * np.log(counts.sum())
    return bool(gain > penalty and two.separation > min_separation)


def monotone(clean_probability: Floats, confident_bin: int) -> Floats:
    """Make a posterior non-increasing in the loss, from the confident component's mean to either
    side: a wider noisy component must not win on both, and where neither has any mass the posterior
    says nothing."""
    easier = clean_probability[: confident_bin + 1]
    harder = clean_probability[confident_bin:]
    return np.concatenate(
        [np.maximum.accumulate(easier[::-1])[:0:-1], np.minimum.accumulate(harder)]
    )


def _log_normal(x: Floats, mean: Floats | float, std: Floats | float) -> Floats:
    """Return the log density of a normal distribution at x."""
    return np.asarray(-0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi))


def _weighted(mass: Floats, x: Floats, total: float) -> Component:
    share = max(float(mass.sum()), 1e-9)
    mean = float((mass * x).sum() / share)
    return Component(
        share / total, mean, max(float(np.sqrt((mass * (x - mean) ** 2).sum() / share)), _MIN_STD)
    )
