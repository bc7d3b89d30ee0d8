"""All frozen blocks in one call: bit for bit what they give one by one, and one by one wherever somebody needs it."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from cpp_kernels import needs_kernels
from rmeeto import TokenMerge, freeze, parse_reduction
from rmeeto.models import frozen_trunk
from small_models import images_of, model_of, needs_bfloat16

pytestmark = needs_kernels
NETWORKS = [
    ("vim_tiny", {}),
    ("vim_tiny", {"registers": 3}),
    ("vim_tiny", {"dim": 40, "state": 16, "conv_width": 2, "depth": 1}),
    ("videomamba_tiny", {}),
    ("videomamba_tiny", {"frames": 4}),
]
MERGES = ["r=5", "r=9+1+5,blocks=all", "ratio=0.2", "r=5,window=3", "r=5,nth=2,distance=l1,blocks=all,slope=-0.5"]


@pytest.fixture
def calls(monkeypatch):
    """How often all blocks were computed in one call."""
    found, run_trunk = [], frozen_trunk.run_trunk

    def count(blocks, *args):
        found.append(len(blocks))
        return run_trunk(blocks, *args)

    monkeypatch.setattr(frozen_trunk, "run_trunk", count)
    return found


def assert_same(model, images):
    """Everything that leaves the last block."""
    tokens = model.embed(images)
    kept = tokens.x.clone()
    found, expected = frozen_trunk.passed(model, tokens), model.mixed(tokens)
    assert torch.equal(tokens.x, kept)
    for name in ("x", "residual", "protected"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype, name
        assert torch.equal(one, other), name


@pytest.mark.parametrize(("name", "options"), NETWORKS)
@pytest.mark.parametrize("batch", [1, 3])
def test_it_equals_the_blocks_one_by_one(name, options, batch, calls):
    model = freeze(model_of(name, **options))
    images = images_of(model, batch)
    reductions = [None] if model.config.depth == 1 else [None, *MERGES]
    for reduction in reductions:
        model.reduction = reduction and parse_reduction(f"merge:{reduction}")
        with torch.inference_mode():
            assert_same(model, images)
            torch.testing.assert_close(model(images), model.trace(images).logits, rtol=1e-4, atol=1e-5)
    assert calls == [model.config.depth] * 2 * len(reductions)


@needs_bfloat16
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=["autocast", "weights"])
@pytest.mark.parametrize("reduction", [None, TokenMerge(r=5)])
def test_bfloat16_is_bfloat16(weights, reduction, calls):
    model = freeze(model_of(reduction=reduction).to(weights))
    images = images_of(model).to(weights)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=weights == torch.float32):
        assert_same(model, images)
        assert model(images).dtype == torch.bfloat16
    assert calls


def test_blocks_that_were_cut_off_are_left_out(calls):
    model = freeze(model_of(reduction=TokenMerge(r=5)))
    model.prune_intermediate_layers(indices=[1], prune_head=False)
    with torch.inference_mode():
        assert_same(model, images_of(model))
    assert calls == [2]


def hooked(model):
    model.layers[2].register_forward_hook(lambda module, inputs, output: (output[0].replace(x=output[0].x * 0), None))


def hooked_before(model):
    model.layers[2].register_forward_pre_hook(lambda module, inputs: (inputs[0].replace(x=inputs[0].x * 0), inputs[1]))


def hooked_inside(model):
    model.layers[2].mixer.out_proj.register_forward_hook(lambda module, inputs, output: output * 0)


def replaced_forward(model):
    run = model.layers[2].forward
    model.layers[2].forward = lambda tokens, needs: run(tokens.replace(x=tokens.x * 0), needs)


class Wrapped(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, tokens, needs):
        tokens, features = self.block(tokens, needs)
        return tokens.replace(x=tokens.x * 0), features


def wrapped(model):
    model.layers[2] = Wrapped(model.layers[2])


def thawed_and_changed(model):
    model.layers[2].thaw()
    nn.init.zeros_(model.layers[2].mixer.out_proj.weight)


def by_the_reference(model):
    model.layers[2].mixer.impl = "reference"
    nn.init.zeros_(model.layers[2].mixer.out_proj.weight)  # which the packed one does not see


@pytest.mark.parametrize(
    "change",
    [hooked, hooked_before, hooked_inside, replaced_forward, wrapped, thawed_and_changed, by_the_reference],
)
@torch.inference_mode()
def test_what_changes_later_is_seen(change, calls):
    model = freeze(model_of())
    images = images_of(model)
    before = model(images)
    assert calls
    calls.clear()
    change(model)
    after = model(images)
    assert not calls
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, model.trace(images).logits, rtol=1e-4, atol=1e-5)


@dataclass(frozen=True, kw_only=True, repr=False)
class Reversed(TokenMerge):
    """Merges as ever, then turns the tokens around."""

    def step(self, tokens, features, step):
        merged = super().step(tokens, features, step)
        return merged.replace(x=merged.x.flip(1).contiguous())


@pytest.mark.parametrize(
    "reduction",
    [
        *(TokenMerge(r=5, **choice) for choice in ({"features": "C"}, {"op": "mean"}, {"order": "dropped"})),
        *(TokenMerge(r=5, **choice) for choice in ({"grouping": "front-behind"}, {"stretch": 0.5}, {"frames": 0})),
        *(parse_reduction(f"{name}:r=5") for name in ("prune", "famba", "tofu", "stm")),
        Reversed(r=5),
    ],
    ids=str,
)
def test_other_reductions_walk_from_block_to_block(reduction, calls):
    model = freeze(model_of("videomamba_tiny", frames=4, reduction=reduction))
    images = images_of(model)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), model.trace(images).logits, rtol=1e-4, atol=1e-5)
    assert not calls


def test_who_asks_where_tokens_came_from_is_told(calls):
    model = freeze(model_of(reduction=TokenMerge(r=5)))
    with torch.inference_mode():
        tokens = model.forward_features(images_of(model))
    assert len(tokens.plans) == sum(count > 0 for count in model.schedule.counts)
    assert not calls
