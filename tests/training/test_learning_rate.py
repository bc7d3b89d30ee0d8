import math
from itertools import pairwise

import pytest

from rmeeto.training.learning_rate import LearningRate


def test_the_rate_is_a_cosine_per_step_that_ends_on_the_floor():
    rate = LearningRate(lr=2e-5, min_lr=1e-6, warmup_steps=0, total_steps=30)
    rates = [rate.at(step) for step in range(30)]
    assert rates[0] == 2e-5
    assert rates[-1] == pytest.approx(1e-6, rel=1e-9)
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert rates[15] == pytest.approx(1e-6 + 1.9e-5 * (1 + math.cos(math.pi * 15 / 29)) / 2)


def test_warm_up_rises_to_the_rate():
    rate = LearningRate(lr=1e-3, min_lr=1e-6, warmup_steps=4, total_steps=30)
    assert [rate.at(step) for step in range(5)] == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4, 1e-3])
    assert rate.at(29) == pytest.approx(1e-6)


def test_one_step_runs_at_the_full_rate():
    assert LearningRate(lr=2e-5, min_lr=1e-6, warmup_steps=0, total_steps=1).at(0) == 2e-5
