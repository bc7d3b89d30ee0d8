"""Bounds of mutual information from tables of scores: closed forms, limits, gradients, and which pairs count."""

import math

import pytest
import torch

from rmeeto.analysis.estimators.bounds import (
    Scores,
    clipped,
    contrast,
    donsker_varadhan,
    jensen_shannon,
    log_mean_exp,
)
from rmeeto.analysis.estimators.neural import moving_average_loss

RHO = 0.8
NATS = -0.5 * math.log(1 - RHO**2)


def apart(count):
    return ~torch.eye(count, dtype=torch.bool)


def random_scores(count=6):
    return Scores(torch.randn(count, count), apart(count))


def exact_scores(count=1000):
    """The log ratio of densities of two correlated normal numbers, which is the best critic."""
    x = torch.randn(count, dtype=torch.float64)
    y = RHO * x + math.sqrt(1 - RHO**2) * torch.randn(count, dtype=torch.float64)
    u, v = x[:, None], y[None, :]
    return Scores(NATS - (RHO**2 * (u**2 + v**2) - 2 * RHO * u * v) / (2 * (1 - RHO**2)), apart(count))


@pytest.mark.parametrize("bound", [donsker_varadhan, contrast, lambda scores: clipped(scores, 10.0)])
def test_the_best_critic_gives_the_information_of_gaussians(bound):
    assert float(bound(exact_scores())) == pytest.approx(NATS, abs=0.08)


def test_no_change_of_the_best_critic_raises_the_jensen_shannon_bound():
    scores = exact_scores()
    best = jensen_shannon(scores)
    for changed in (scores.table * 0.7, scores.table * 1.4, scores.table + 0.5, scores.table - 0.5):
        assert jensen_shannon(Scores(changed, scores.chance)) < best


@pytest.mark.parametrize("bound", [donsker_varadhan, contrast, lambda scores: clipped(scores, 5.0)])
def test_scores_that_are_all_equal_give_zero(bound):
    assert float(bound(Scores(torch.full((5, 5), 3.0), apart(5)))) == pytest.approx(0, abs=1e-6)


def test_the_contrastive_bound_is_at_most_the_log_of_the_candidates():
    scores = Scores(torch.eye(7) * 1000, apart(7))
    assert float(contrast(scores)) == pytest.approx(math.log(7))
    assert float(donsker_varadhan(scores)) == pytest.approx(1000)  # which has no such limit


def test_clipping_cuts_what_one_pair_adds():
    table = torch.zeros(4, 4)
    table[0, 1] = 40.0
    scores = Scores(table, apart(4))
    assert float(donsker_varadhan(scores)) == pytest.approx(math.log(12) - 40, abs=1e-3)
    assert float(clipped(scores, 5.0)) == pytest.approx(-math.log((11 + math.exp(5)) / 12))


@pytest.mark.parametrize("bound", [donsker_varadhan, contrast, jensen_shannon, lambda scores: clipped(scores, 2.0)])
def test_pairs_of_one_image_are_no_pairs_by_chance(bound):
    image = torch.tensor([0, 0, 1, 2, 2, 2])
    scores = Scores(torch.randn(6, 6), image[:, None] != image)
    within = ~scores.chance & apart(6)
    changed = torch.where(within, torch.full((6, 6), 50.0), scores.table)
    assert torch.equal(bound(scores), bound(Scores(changed, scores.chance)))
    assert not torch.equal(bound(scores), bound(Scores(changed, apart(6))))


def test_the_gradient_of_mine_is_divided_by_the_moving_average():
    loss, weight = moving_average_loss(0.3), 0.3
    average = None
    for _ in range(4):
        scores = random_scores()
        table = scores.table.requires_grad_()
        loss(scores).backward()
        by_chance = table.detach().exp()[scores.chance]
        average = by_chance.mean() if average is None else (1 - weight) * average + weight * by_chance.mean()
        wanted = torch.where(scores.chance, table.detach().exp() / len(by_chance) / average, -torch.eye(6) / 6)
        torch.testing.assert_close(table.grad, wanted)


def test_the_whole_weight_on_the_present_step_is_the_gradient_of_the_bound_itself():
    scores = random_scores()
    table = scores.table.requires_grad_()
    (mine,) = torch.autograd.grad(moving_average_loss(1.0)(scores), table)
    (bound,) = torch.autograd.grad(-donsker_varadhan(scores), table)
    torch.testing.assert_close(mine, bound)


def test_the_mean_of_exp_survives_large_scores():
    scores = Scores(torch.full((3, 3), 500.0), apart(3))
    assert float(log_mean_exp(*scores)) == pytest.approx(500.0)
