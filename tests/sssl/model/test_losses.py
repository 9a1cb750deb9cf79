import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sssl.model import losses


def logits(rows=6, seed=0):
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))


def test_soft_cross_entropy_of_hard_labels_is_cross_entropy():
    target = torch.tensor([0, 1, 2, 3, 0, 1])
    ours = losses.soft_cross_entropy(logits(), F.one_hot(target, 4).float())
    torch.testing.assert_close(ours, F.cross_entropy(logits(), target, reduction="none"))


def test_a_bag_of_one_segment_has_the_cross_entropy_of_the_segment():
    each, target = logits(), logits(seed=1).softmax(dim=1)
    bags = losses.bag_cross_entropy(each.unsqueeze(1), target.unsqueeze(1))
    torch.testing.assert_close(bags, losses.soft_cross_entropy(each, target))


def test_a_segment_that_speaks_against_the_label_costs_its_bag_less_than_it_costs_alone():
    """Three segments sure of the label and one sure of another: the mean posterior is three
    quarters."""
    each = torch.tensor([[[9.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 9.0]]])
    target = torch.tensor([1.0, 0.0]).expand(1, 4, 2)
    assert losses.bag_cross_entropy(each, target).item() == pytest.approx(-math.log(0.75), abs=1e-3)
    assert losses.soft_cross_entropy(each, target).mean() > 2


def test_squared_error_is_zero_at_the_target_and_bounded():
    assert losses.squared_error(logits(), logits().softmax(1)).max() < 1e-12
    assert (
        losses.squared_error(
            torch.tensor([[100.0, -100, -100, -100]]), torch.tensor([[0.0, 1, 0, 0]])
        ).item()
        <= 0.5
    )


def test_consistency_is_symmetric_and_zero_for_equal_views():
    a, b = logits(seed=1), logits(seed=2)
    torch.testing.assert_close(losses.consistency(a, b), losses.consistency(b, a))
    assert losses.consistency(a, a).abs() < 1e-6
    assert losses.consistency(a, b) > 0


def test_prior_divergence_is_the_kl_divergence_to_the_mean_posterior():
    prior = torch.tensor([0.4, 0.3, 0.2, 0.1])
    mean = logits().softmax(1).mean(0)
    expected = float((prior * (prior / mean).log()).sum())
    assert losses.prior_divergence(logits(), prior).item() == pytest.approx(expected, abs=1e-6)
    assert losses.prior_divergence(prior.log().expand(5, 4), prior).abs() < 1e-6


def test_mixup_keeps_an_example_closer_to_itself():
    torch.manual_seed(0)
    x, target = torch.eye(8), torch.eye(8)
    for _ in range(50):
        mixed, soft = losses.mixup(x, target, 0.5)
        assert (mixed.diagonal() >= 0.5).all()
        torch.testing.assert_close(mixed, soft)
        np.testing.assert_allclose(soft.sum(1), 1, atol=1e-6)


def test_mixup_with_alpha_zero_changes_nothing():
    x, target = logits(), logits().softmax(1)
    assert losses.mixup(x, target, 0.0) == (x, target)


def test_smoothed_labels_still_sum_to_one():
    soft = losses.smooth(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 0.1)
    torch.testing.assert_close(soft, torch.tensor([[0.925, 0.025, 0.025, 0.025]]))
