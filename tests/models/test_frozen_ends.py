"""What stands before and behind the blocks, frozen: the same answers, or the ordinary way wherever it is needed."""

import pytest
import torch
from torch import nn

import small_models
from cpp_kernels import needs_kernels
from rmeeto import TokenMerge, freeze, thaw
from rmeeto.models.inference.ends import FrozenEnds
from small_models import (
    fresh_head,
    hooked_head,
    hooked_norm,
    hooked_patches,
    images_of,
    needs_bfloat16,
    other_head,
)

pytestmark = needs_kernels
SHAPES = [
    ("vim_tiny", {}),
    ("vim_tiny", {"registers": 3}),
    ("vim_tiny", {"img_size": 40, "patch_size": 20, "stride": 20}),
    ("videomamba_tiny", {}),
    ("videomamba_tiny", {"frames": 4}),
    ("videomamba_tiny", {"frames": 4, "tubelet": 2}),
]


def model_of(*args, **options):
    """One that walks from block to block: it merges by what blocks hand out."""
    return small_models.model_of(*args, reduction=TokenMerge(r=1, features="C"), **options)


@pytest.fixture
def calls(monkeypatch):
    """Which ends computed anything."""
    found = []

    def counted(name):
        run = getattr(FrozenEnds, name)

        def count(self, *args):
            result = run(self, *args)
            found.extend([name] * (result is not None))
            return result

        return count

    for name in ("embed", "classify"):
        monkeypatch.setattr(FrozenEnds, name, counted(name))
    return found


@pytest.mark.parametrize(("name", "options"), SHAPES)
@pytest.mark.parametrize("batch", [1, 3])
def test_frozen_ends_say_the_same(name, options, batch, calls):
    model = model_of(name, **options)
    images = images_of(model, batch)
    with torch.inference_mode():
        tokens, logits = thaw(model).embed(images), model(images)
        assert not calls
        found = freeze(model).embed(images)
        torch.testing.assert_close(found.x, tokens.x, rtol=1e-4, atol=1e-5)
        assert found.protected.equal(tokens.protected)
        torch.testing.assert_close(model(images), logits, rtol=1e-4, atol=1e-5)
    assert calls == ["embed", "embed", "classify"]


def test_many_images_are_embedded_in_parts(calls):
    model = model_of()
    images = images_of(model, batch=33)
    with torch.inference_mode():
        expected = thaw(model).embed(images).x
        assert len(images) * expected.shape[1] > 2 * 1024
        torch.testing.assert_close(freeze(model).embed(images).x, expected, rtol=1e-4, atol=1e-5)
    assert calls == ["embed"]


@needs_bfloat16
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=["autocast", "weights"])
def test_bfloat16_is_bfloat16(weights, calls):
    model = model_of().to(weights)
    images = images_of(model).to(weights)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=weights == torch.float32):
        expected, logits = thaw(model).embed(images).x, model(images)
        found = freeze(model).embed(images).x
        assert found.dtype == expected.dtype == weights
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
        again = model(images)
    assert again.dtype == logits.dtype == torch.bfloat16
    torch.testing.assert_close(again.float(), logits.float(), rtol=0.05, atol=0.05)
    assert "classify" in calls


def test_images_that_do_not_lie_side_by_side_are_read_all_the_same(calls):
    model = freeze(model_of())
    images = images_of(model)
    with torch.inference_mode():
        torch.testing.assert_close(model(images.to(memory_format=torch.channels_last)), model(images))
    assert calls == ["classify", "embed", "classify"]


def no_head(model):
    model.reset_classifier(0)


def by_the_reference(model):
    model.impl = "reference"


@pytest.mark.parametrize(
    "change", [hooked_head, hooked_norm, hooked_patches, other_head, fresh_head, no_head, by_the_reference]
)
def test_what_changes_later_is_seen(change, calls):
    model = freeze(model_of())
    images = images_of(model)
    with torch.inference_mode():
        model(images)
        calls.clear()
        change(model)
        found = model(images)
        assert not calls
        torch.testing.assert_close(found, thaw(model)(images), rtol=1e-4, atol=1e-5)


def test_patches_that_overlap_are_convolved(calls):
    model = freeze(model_of(stride=2))
    with torch.inference_mode():
        model(images_of(model))
    assert calls == ["classify"]


def test_weights_loaded_later_count():
    model, other = freeze(model_of()), model_of()
    nn.init.normal_(other.pos_embed)
    nn.init.normal_(other.norm_f.weight)
    images = images_of(model)
    with torch.inference_mode():
        model(images)
        model.load_state_dict(other.state_dict())
        torch.testing.assert_close(freeze(model)(images), freeze(other)(images))
