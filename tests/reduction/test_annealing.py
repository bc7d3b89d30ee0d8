from itertools import pairwise

import pytest
import torch

from rmeeto.config import ModelConfig
from rmeeto.cost import stack_of
from rmeeto.errors import ConfigError
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.models.vim.zoo import ZOO
from rmeeto.reduction import ReleasedMerge, TokenMerge, annealed, parse_reduction
from rmeeto.reduction.annealing import Annealing
from rmeeto.reduction.protocol import Stack

STACK = stack_of(ZOO["vim_tiny"].config)


@pytest.mark.parametrize(
    "line",
    [
        "evit:r=10",
        "hsa:ratio=0.4,blocks=all",
        "stm:r=11",
        "merge:r=20,blocks=odd",
        "mtr:fewer=1.4",
        "similar-merge:r=9",
    ],
)
@pytest.mark.parametrize("depth", [8, 24])
def test_counts_rise_from_nothing_to_everything(line, depth):
    stack, reduction = stack_of(ModelConfig(depth=depth)), parse_reduction(line)
    schedules = [annealed(reduction, stack, moment / 20).schedule(stack) for moment in range(21)]
    assert schedules[0].counts == stack.whole().counts
    assert schedules[-1] == reduction.schedule(stack)
    assert annealed(reduction, stack, 1) is reduction
    for before, after in pairwise(schedules):
        assert all(a <= b for a, b in zip(before.counts, after.counts, strict=True))
    half, full = (sum(schedules[moment].counts) for moment in (10, 20))
    assert abs(half - full / 2) <= depth / 2


def test_a_network_that_reduces_in_its_first_block_too():
    stack = Stack(4, 17, first=0)
    assert annealed(parse_reduction("prune:r=4,blocks=0:2"), stack, 0.5).schedule(stack).counts == (2, 2, 0, 0)


def test_any_moment_fits_a_model():
    model = VisionMamba(ModelConfig(img_size=16, patch_size=4, stride=4, dim=8, depth=4, state=4))
    target, images = parse_reduction("evit:r=4,fused=True,blocks=all"), torch.randn(2, 3, 16, 16)
    for moment in (0, 0.3, 0.7, 1):
        model.reduction = annealed(target, stack_of(model.config), moment)
        assert model.trace(images).final.length == model.schedule.tokens[-1]


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
def test_there_is_nothing_outside_of_training(progress):
    with pytest.raises(ConfigError, match="from 0 to 1"):
        annealed(parse_reduction("evit:r=1"), Stack(4, 17, features=frozenset({"X", "y"})), progress)


def test_the_reduction_grows_until_it_is_whole():
    annealing = Annealing(TokenMerge(r=10), STACK, steps=4)
    removed = [sum(annealing.at(step).schedule(STACK).counts) for step in (0, 1, 2, 3, 4, 9)]
    assert removed[0] == 0
    assert removed == sorted(removed)
    assert removed[4] == removed[5] == sum(TokenMerge(r=10).schedule(STACK).counts)


def test_without_annealing_every_step_has_the_whole_reduction():
    reduction = TokenMerge(r=10)
    assert Annealing(reduction, STACK, steps=0).at(0) is reduction
    assert Annealing(None, STACK, steps=4).at(0) is None


def test_a_reduction_that_cannot_be_annealed_is_refused_at_once():
    with pytest.raises(ConfigError, match="no smaller version"):
        Annealing(ReleasedMerge(r=5), STACK, steps=4)
