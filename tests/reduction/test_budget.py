"""Budgets are kept without removing more than needed; errors say what is in reach."""

import re
from functools import partial
from itertools import pairwise

import pytest

from rmeeto import TokenMerge, flops
from rmeeto.config import ModelConfig
from rmeeto.cost import count, stack_of
from rmeeto.errors import ConfigError
from rmeeto.reduction import TokenPrune
from rmeeto.reduction.protocol import Stack
from rmeeto.reduction.schedule import block_numbers, linear

VIM_SMALL = ModelConfig(dim=384)
TINY = ModelConfig(img_size=32, patch_size=4, stride=4, dim=16, depth=12, state=4)
WHOLE = {config: count(config).total for config in (VIM_SMALL, TINY)}


def family(config, blocks, slope, minimum=0):
    stack = stack_of(config)
    return partial(linear, chosen=block_numbers(blocks, stack), stack=stack, slope=slope, minimum=minimum)


def next_larger(schedules, tokens):
    """The family's smallest schedule with more tokens in all: the mean count is lowered until one more is left."""
    low, high = 0.0, 1e4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(schedules(middle).tokens) > tokens else (low, middle)
    return schedules(low)


@pytest.mark.parametrize("slope", [-1.0, -0.3, 0.0, 1.0])
@pytest.mark.parametrize("blocks", ["even", "all", "3::3"])
@pytest.mark.parametrize("share", [0.97, 0.9, 0.8])
@pytest.mark.parametrize("config", [VIM_SMALL, TINY], ids=["vim_small", "tiny"])
def test_a_budget_is_met_and_one_token_more_would_exceed_it(config, share, blocks, slope):
    limit = share * WHOLE[config]
    merge = TokenMerge(gflops=limit / 1e9, blocks=blocks, slope=slope)
    cost = count(config, merge)
    assert cost.total <= limit
    larger = next_larger(family(config, blocks, slope), sum(cost.schedule.tokens))
    assert all(a >= b for a, b in zip(larger.tokens, cost.schedule.tokens, strict=True))
    assert stack_of(config).exact_operations(merge, larger) > limit


def test_fewer_is_the_same_budget_in_other_words():
    by_factor = count(VIM_SMALL, TokenMerge(fewer=1.4))
    by_gflops = count(VIM_SMALL, TokenMerge(gflops=WHOLE[VIM_SMALL] / 1.4e9))
    assert by_factor == by_gflops
    assert WHOLE[VIM_SMALL] / by_factor.total >= 1.4


def test_the_reductions_own_operations_are_part_of_the_budget():
    cheap, dear = (count(VIM_SMALL, TokenMerge(gflops=8.0, features=name)) for name in ("B", "delta"))
    assert dear.terms["reduction"] > cheap.terms["reduction"]
    assert sum(dear.schedule.tokens) < sum(cheap.schedule.tokens)
    for cost in (cheap, dear):
        assert 0.99 * 8e9 < cost.total <= 8e9


def test_a_budget_that_the_whole_model_meets_removes_nothing():
    for budget in ({"fewer": 1.0}, {"gflops": 100.0}, {"ratio": 0.0}):
        assert count(VIM_SMALL, TokenMerge(**budget)).schedule.counts == (0,) * 24


@pytest.mark.parametrize("options", [{}, {"slope": 0.5}, {"blocks": "6::6"}, {"minimum": 150}])
def test_what_is_called_reachable_is(options):
    with pytest.raises(ConfigError, match="its own cost included") as caught:
        count(VIM_SMALL, TokenPrune(gflops=1.0, **options))
    gflops, fewer = map(float, re.search(r"leaves (\S+) GFLOPs, (\S+)× fewer", caught.value.why).groups())
    assert count(VIM_SMALL, TokenPrune(gflops=gflops, **options)).total <= gflops * 1e9
    assert count(VIM_SMALL, TokenPrune(fewer=fewer, **options)).total <= WHOLE[VIM_SMALL] / fewer
    with pytest.raises(ConfigError, match="need at least 9× fewer"):
        count(VIM_SMALL, TokenPrune(fewer=9.0, **options))


def test_a_stack_without_a_counter_has_no_budget():
    with pytest.raises(ConfigError, match="no counter of operations"):
        TokenMerge(fewer=1.4).schedule(Stack(24, 197))


@pytest.mark.parametrize("slope", [-1.0, 0.0, 0.7])
def test_a_larger_mean_never_leaves_more_tokens_anywhere(slope):
    schedules = [family(TINY, "all", slope, minimum=9)(mean / 50) for mean in range(4000)]
    for fewer, more in pairwise(schedules):
        assert all(a >= b for a, b in zip(fewer.tokens, more.tokens, strict=True))
    assert schedules[-1].tokens[-1] == 9


def test_a_built_model_takes_budgets():
    from rmeeto.models.vim.backbone import VisionMamba

    model = VisionMamba(TINY, TokenMerge(fewer=1.3, slope=-0.5))
    assert WHOLE[TINY] / flops(model).total >= 1.3
    model.reduction = TokenMerge(ratio=0.2)
    assert model.schedule.ratio == pytest.approx(0.2, abs=1 / 65)
