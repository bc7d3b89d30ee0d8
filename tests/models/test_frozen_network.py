"""A frozen model in one call: bit for bit its blocks one by one, which run wherever somebody needs them to."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from cpp_kernels import needs_kernels
from rmeeto import TokenMerge, freeze, thaw
from rmeeto.errors import UnsupportedInput
from rmeeto.reduction import STM, parse_reduction
from small_models import (
    fresh_head,
    hooked_head,
    hooked_norm,
    hooked_patches,
    images_of,
    model_of,
    needs_bfloat16,
    other_head,
)

pytestmark = needs_kernels
NETWORKS = [
    ("vim_tiny", {}),
    ("vim_tiny", {"registers": 3}),
    ("vim_tiny", {"dim": 40, "state": 16, "conv_width": 2, "depth": 1}),
    ("vim_tiny", {"img_size": 40, "patch_size": 20, "stride": 20}),
    ("videomamba_tiny", {}),
    ("videomamba_tiny", {"frames": 4}),
    ("videomamba_tiny", {"frames": 4, "tubelet": 2}),
]
MERGES = [
    *("merge:r=5", "merge:r=9+1+5,blocks=all", "merge:ratio=0.2", "merge:r=5,window=3"),
    *("merge:r=5,nth=2,distance=l1,blocks=all,slope=-0.5", "stm:r=5", "stm:ratio=0.2,guard=1,blocks=all"),
]
MERGES_OF_FOUR = ["merge:r=1", "merge:r=2,blocks=2:3", "stm:r=1,guard=0"]  # patches


def one_by_one(model, images):
    """The frozen blocks between the frozen ends."""
    tokens = model.forward_blocks(images)
    return model.executor.packed_for(model, tokens.x).ends.classify(tokens)


@pytest.mark.parametrize(("name", "options"), NETWORKS)
@pytest.mark.parametrize("batch", [1, 3])
def test_it_equals_its_parts(name, options, batch, calls):
    model = freeze(model_of(name, **options))
    images = images_of(model, batch)
    merges = MERGES_OF_FOUR if model.config.patches == 4 else MERGES
    reductions = [None] if model.config.depth == 1 else [None, *merges]
    for reduction in reductions:
        model.reduction = reduction and parse_reduction(reduction)
        with torch.inference_mode():
            assert torch.equal(model(images), one_by_one(model, images)), reduction
    assert len(set(calls)) == len(reductions)


@pytest.mark.parametrize("reduction", [None, TokenMerge(r=5), STM(r=5)])
def test_it_says_what_the_thawed_model_says(reduction, calls):
    model = model_of(reduction=reduction)
    images = images_of(model)
    with torch.inference_mode():
        expected = model(images)
        assert not calls
        torch.testing.assert_close(freeze(model)(images), expected, rtol=1e-4, atol=1e-5)
        assert calls
        thaw(model)
        assert torch.equal(model(images), expected)
    assert len(calls) == 1


@needs_bfloat16
@pytest.mark.parametrize("reduction", [None, TokenMerge(r=5), STM(r=5)])
def test_bfloat16_by_autocast(reduction, calls):
    model = freeze(model_of(reduction=reduction))
    images = images_of(model)
    with torch.inference_mode():
        exact = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
            assert torch.equal(logits, one_by_one(model, images))
    assert (exact.dtype, logits.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(logits.float(), exact, rtol=0.05, atol=0.05)
    assert len(set(calls)) == 2


@needs_bfloat16
def test_bfloat16_weights(calls):
    model, exact = freeze(model_of().to(torch.bfloat16)), model_of()
    images = images_of(model)
    with torch.inference_mode():
        logits = model(images.bfloat16())
        torch.testing.assert_close(logits.float(), exact(images), rtol=0.05, atol=0.05)
        assert len(calls) == 1
        with pytest.raises(RuntimeError, match="type"):
            model(images)
        with pytest.raises(RuntimeError, match="type"):
            thaw(model)(images)
    assert len(calls) == 1


def test_images_that_do_not_lie_side_by_side(calls):
    model = freeze(model_of())
    images = images_of(model)
    with torch.inference_mode():
        expected = model(images)
        assert torch.equal(model(images.to(memory_format=torch.channels_last)), expected)
    assert len(calls) == 2


def test_images_of_another_size_are_refused(calls):
    model = freeze(model_of())
    with torch.inference_mode(), pytest.raises(UnsupportedInput, match=r"\(2, 3, 32, 33\)"):
        model(torch.zeros(2, 3, 32, 33))
    assert not calls


def test_reductions_take_turns(calls):
    """None is packed for another's counts, and a new schedule is seen."""
    model = freeze(model_of())
    images = images_of(model)
    with torch.inference_mode():
        found = []
        for reduction in (None, TokenMerge(r=5), TokenMerge(r=9), TokenMerge(r=5), None):
            model.reduction = reduction
            found.append(model(images))
            assert torch.equal(found[-1], model(images))
    assert torch.equal(found[0], found[4])
    assert torch.equal(found[1], found[3])
    assert not torch.equal(found[1], found[2])
    assert len(calls) == 10


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


def cut_off(model):
    model.prune_intermediate_layers(indices=[1], prune_head=False)


def thawed_and_changed(model):
    model.layers[2].thaw()
    nn.init.zeros_(model.layers[2].mixer.out_proj.weight)


def by_the_reference(model):
    model.layers[2].mixer.impl = "reference"
    nn.init.zeros_(model.layers[2].mixer.out_proj.weight)  # which the packed one does not see


def frozen_again_and_changed(model):
    nn.init.zeros_(model.layers[2].mixer.out_proj.weight)
    freeze(model.layers[2])


@pytest.mark.parametrize(
    "change",
    [
        *(hooked, hooked_before, hooked_inside, hooked_head, hooked_norm, hooked_patches, replaced_forward, wrapped),
        *(other_head, fresh_head, cut_off, thawed_and_changed, by_the_reference, frozen_again_and_changed),
    ],
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
    torch.testing.assert_close(after, thaw(model)(images), rtol=1e-4, atol=1e-5)


def test_hooks_that_are_gone_again_are_forgotten(calls):
    model = freeze(model_of())
    images = images_of(model)
    handle = model.layers[2].mixer.out_proj.register_forward_hook(lambda module, inputs, output: None)
    with torch.inference_mode():
        model(images)
        assert not calls
        handle.remove()
        model(images)
    assert calls


@dataclass(frozen=True, kw_only=True, repr=False)
class Reversed(TokenMerge):
    """Merges as ever, then turns the tokens around."""

    def step(self, tokens, features, step):
        merged = super().step(tokens, features, step)
        return merged.replace(x=merged.x.flip(1).contiguous())


@dataclass(frozen=True, kw_only=True, repr=False)
class Zeroed(TokenMerge):
    """Merges as ever, and forgets what the tokens were."""

    def apply(self, tokens, plan):
        return super().apply(tokens.replace(x=tokens.x * 0), plan)


@dataclass(frozen=True, kw_only=True, repr=False)
class OtherWay(TokenMerge):
    """Takes out other tokens than those that match."""

    def plan(self, tokens, matched):
        return super().plan(tokens, matched._replace(target=matched.target.roll(1, 1)))


@dataclass(frozen=True, kw_only=True, repr=False)
class OtherPairs(TokenMerge):
    """Finds other pairs than those that match."""

    def matched(self, tokens, features, step):
        found = super().matched(tokens, features, step)
        return found._replace(target=found.target.roll(1, 1))


@dataclass(frozen=True, kw_only=True, repr=False)
class ReversedNeighbours(STM):
    """Merges neighbours as ever, then turns the tokens around."""

    def by_parts(self, tokens, features, step):
        merged = super().by_parts(tokens, features, step)
        return merged.replace(x=merged.x.flip(1).contiguous())


@pytest.mark.parametrize("method", [Zeroed, OtherWay, OtherPairs, ReversedNeighbours])
def test_a_method_of_ones_own_is_obeyed(method, calls):
    model = model_of(reduction=TokenMerge(r=5))
    images = images_of(model)
    plain = model(images)
    model.reduction = method(r=5)
    expected = model(images)  # with gradients, where every method is called
    assert not torch.allclose(expected, plain)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(freeze(model)(images), expected, rtol=1e-4, atol=1e-5)
    assert not calls


def test_a_method_replaced_after_a_pass_is_obeyed(calls):
    model = freeze(model_of(reduction=TokenMerge(r=5)))
    images, reduction = images_of(model), model.reduction
    with torch.inference_mode():
        before = model(images)
        assert calls
        apply = reduction.apply
        object.__setattr__(reduction, "apply", lambda tokens, plan: apply(tokens.replace(x=tokens.x * 0), plan))
        found = model(images)
        assert not torch.allclose(found, before)
        torch.testing.assert_close(found, thaw(model)(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "reduction",
    [
        *(TokenMerge(r=5, **choice) for choice in ({"features": "C"}, {"op": "mean"}, {"order": "dropped"})),
        *(TokenMerge(r=5, **choice) for choice in ({"grouping": "front-behind"}, {"stretch": 0.5}, {"frames": 0})),
        *(parse_reduction(f"{name}:r=5") for name in ("prune", "famba", "tofu", "pitome")),
        STM(r=5, features="B"),
        Reversed(r=5),
    ],
    ids=str,
)
def test_other_reductions_walk_from_block_to_block(reduction, calls):
    model = freeze(model_of("videomamba_tiny", frames=4, reduction=reduction))
    images = images_of(model)
    with torch.inference_mode():
        found = model(images)
        assert not calls
        torch.testing.assert_close(found, model.trace(images).logits, rtol=1e-4, atol=1e-5)


def test_patches_that_overlap_and_models_without_a_head_walk_too(calls):
    for model in (freeze(model_of(stride=2)), freeze(model_of(num_classes=0))):
        with torch.inference_mode():
            model(images_of(model))
    assert not calls


def test_who_asks_where_tokens_came_from_is_told(calls):
    model = freeze(model_of(reduction=TokenMerge(r=5)))
    with torch.inference_mode():
        tokens = model.encode(images_of(model))
    assert len(tokens.plans) == sum(count > 0 for count in model.schedule.counts)
    assert not calls
