import pytest

from rmeeto.cost import stack_of
from rmeeto.errors import ConfigError
from rmeeto.models.vim.zoo import ZOO
from rmeeto.reduction import ReleasedMerge, TokenMerge
from rmeeto.training.annealing import Annealing

STACK = stack_of(ZOO["vim_tiny"].config)


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
