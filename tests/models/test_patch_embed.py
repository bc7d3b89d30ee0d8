"""Patches as one product while frozen: the same tokens, and a convolution wherever that cannot be."""

import pytest
import torch

from rmeeto import create_model, freeze, thaw
from rmeeto.models.linear import packing_dtypes

TOY = {"img_size": 32, "patch_size": 8, "stride": 8, "dim": 16, "depth": 2, "num_classes": 3}
needs_packing = pytest.mark.skipif(torch.float32 not in packing_dtypes(), reason="PyTorch has no oneDNN here")
SHAPES = [
    ("vim_tiny", {}),
    ("vim_tiny", {"img_size": 64, "patch_size": 16, "stride": 16}),
    ("videomamba_tiny", {}),
    ("videomamba_tiny", {"frames": 4}),
    ("videomamba_tiny", {"frames": 4, "tubelet": 2}),
]


def model_of(name="vim_tiny", **options):
    return create_model(name, weights=None, **{**TOY, **options}).eval()


@needs_packing
@pytest.mark.parametrize(("name", "options"), SHAPES)
def test_a_product_gives_what_the_convolution_gives(name, options):
    model = model_of(name, **options)
    images = torch.randn(3, *model.config.input_size)
    with torch.inference_mode():
        expected = thaw(model).patch_embed(images)
        assert freeze(model).patch_embed.is_a_product(images)
        torch.testing.assert_close(model.patch_embed(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(torch.bfloat16 not in packing_dtypes(), reason="oneDNN multiplies no bfloat16 on this processor")
def test_autocast_is_followed():
    model = model_of()
    images = torch.randn(3, *model.config.input_size)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = thaw(model).patch_embed(images)
        found = freeze(model).patch_embed(images)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def overlapping(model):
    return model_of(stride=4)


def hooked(model):
    model.patch_embed.proj.register_forward_hook(lambda module, inputs, output: None)
    return model


def in_float64(model):
    return model.double()


@pytest.mark.parametrize("change", [overlapping, hooked, in_float64])
def test_a_convolution_stays_one_where_it_must(change):
    model = freeze(change(model_of()))
    images = torch.randn(2, *model.config.input_size, dtype=model.pos_embed.dtype)
    with torch.inference_mode():
        assert not model.patch_embed.is_a_product(images)
        assert model.patch_embed(images).isfinite().all()


def test_gradients_flow_through_a_frozen_model():
    model = freeze(model_of())
    images = torch.randn(2, *model.config.input_size, requires_grad=True)
    model.patch_embed(images).sum().backward()
    assert images.grad.abs().sum() > 0
