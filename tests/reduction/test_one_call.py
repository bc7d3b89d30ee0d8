"""Methods that merge in one call of the kernels give what their parts give one after the other."""

import sys
from pathlib import Path

import pytest
import torch

from cpp_kernels import needs_kernels
from rmeeto import TokenMerge
from rmeeto.reduction import STM
from rmeeto.reduction.elapsed import Stretch
from rmeeto.reduction.tokens import Features

sys.path.insert(0, str(Path(__file__).parent))
from draws import at, random_features, random_tokens

pytestmark = needs_kernels
STEP = at(3)


def in_float32(tokens, dtype=torch.float32):
    values = {"x": tokens.x.to(dtype), "residual": tokens.residual.float(), "size": tokens.size.float()}
    return tokens.replace(**values)


def features_in(dtype, drawn):
    pairs = {name: tuple(side.to(dtype) for side in drawn.pair(name)) for name in ("B", "C", "delta")}
    return Features(**pairs, y=None, delta_bias=drawn.delta_bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("features", ["X", "B", "C", "delta"])
@pytest.mark.parametrize("guard", [0, 2])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize(("length", "batch"), [(23, 3), (24, 1)])
@torch.no_grad()
def test_stm_gives_what_its_parts_give(length, batch, place, guard, features, dtype):
    tokens = in_float32(random_tokens(length, batch=batch), dtype)
    tokens = tokens.replace(
        protected=torch.full((batch, 1), {"first": 0, "middle": length // 2, "last": length - 1}[place])
    )
    method, drawn = STM(r=3, guard=guard, features=features), features_in(dtype, random_features(tokens))
    found, expected = method.at_once(tokens, drawn, STEP.r), method.by_parts(tokens, drawn, STEP)
    for name in ("x", "residual", "size", "protected"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert torch.equal(found.group(), expected.group())


@pytest.mark.parametrize("method", [STM(r=3), TokenMerge(r=3)])
def test_what_one_call_cannot_do_is_left_to_the_parts(method):
    tokens = in_float32(random_tokens())
    assert method.at_once(tokens, None, 3) is None  # gradients are recorded
    with torch.no_grad():
        assert method.at_once(tokens, None, 3) is not None
        assert method.at_once(tokens.replace(timing=Stretch(tokens.sizes())), None, 3) is None
        assert method.at_once(tokens.replace(x=tokens.x.double()), None, 3) is None
