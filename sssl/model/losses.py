"""Losses of a training step. Logits and probabilities are [..., C]; each loss returns [...] or a
scalar, in nats."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_LEAST = 1e-8  # of a share: a class that nothing has is no infinity


def smooth(target: Tensor, share: float) -> Tensor:
    """Spread a share of each soft label [B, C] evenly over the classes (Szegedy et al., "Rethinking
    the Inception Architecture", 2016)."""
    return target * (1 - share) + share / target.shape[-1]


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return [...]: cross-entropy against soft labels that sum to 1."""
    return -(target * F.log_softmax(logits, dim=-1)).sum(dim=-1)


def bag_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return [G]: cross-entropy of the mean posterior of a bag [G, S, C] against its mean soft
    label.

    A label of the bag as a whole: a segment that speaks against it costs little while others speak
    for it.
    """
    segments = logits.shape[1]
    log_p = F.log_softmax(logits, dim=-1)
    # The log of a mean of posteriors, without leaving the logarithms: they would underflow.
    log_mean = torch.logsumexp(log_p, dim=1) - math.log(segments)
    return -(target.mean(dim=1) * log_mean).sum(dim=-1)


def squared_error(logits: Tensor, target: Tensor) -> Tensor:
    """Return [...]: mean squared error of the posterior, bounded where a soft label is wrong."""
    error = F.softmax(logits, dim=-1) - target
    return error.square().mean(dim=-1)


def consistency(logits_a: Tensor, logits_b: Tensor) -> Tensor:
    """Return the mean symmetric KL divergence of two views' posteriors."""
    log_a = F.log_softmax(logits_a, dim=1)
    log_b = F.log_softmax(logits_b, dim=1)
    # Both ways: neither of the views is the truth.
    b_from_a = F.kl_div(log_a, log_b, log_target=True, reduction="batchmean")
    a_from_b = F.kl_div(log_b, log_a, log_target=True, reduction="batchmean")
    return 0.5 * (b_from_a + a_from_b)


def prior_divergence(logits: Tensor, prior: Tensor) -> Tensor:
    """Return KL(prior || mean posterior of the batch): keeps the model from giving up a class."""
    mean = F.softmax(logits, dim=1).mean(dim=0)
    log_prior = prior.clamp(min=_LEAST).log()
    log_mean = mean.clamp(min=_LEAST).log()
    return (prior * (log_prior - log_mean)).sum()


def mixup(x: Tensor, target: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix each example with another one. Returns inputs [B, ...] and soft labels [B, C]."""
    if alpha <= 0:
        return x, target
    share = mixup_share(alpha)
    return mixed(x, target, share, torch.randperm(len(x), device=x.device))


def mixup_share(alpha: float) -> float:
    """Draw lambda ~ Beta(a, a), lambda' = max(lambda, 1 - lambda), so that an example stays closer
    to itself (Berthelot et al., "MixMatch", 2019)."""
    drawn = float(torch.distributions.Beta(alpha, alpha).sample())
    return max(drawn, 1 - drawn)


def mixed(x: Tensor, target: Tensor, share: float | Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Mix examples with those that `order` puts in their places."""
    other_share = 1 - share
    inputs = share * x + other_share * x[order]
    targets = share * target + other_share * target[order]
    return inputs, targets
