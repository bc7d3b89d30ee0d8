"""Models so small that a test computes them several times, images for them, and changes that a frozen one must see."""

import pytest
import torch
from torch import nn

from rmeeto import create_model
from rmeeto.ops.packed.block import unsupported_reason

SIZES = {"img_size": 32, "patch_size": 4, "stride": 4, "dim": 24, "depth": 4, "state": 5, "num_classes": 7}
WITHOUT_BFLOAT16 = unsupported_reason(torch.bfloat16, states=16, width=4)
needs_bfloat16 = pytest.mark.skipif(WITHOUT_BFLOAT16 is not None, reason=f"no frozen blocks: {WITHOUT_BFLOAT16}")


def model_of(name="vim_tiny", **options):
    torch.manual_seed(0)
    return create_model(name, weights=None, **{**SIZES, **options}).eval()


def images_of(model, batch=2):
    torch.manual_seed(1)
    return torch.randn(batch, *model.config.input_size)


def hooked_head(model):
    model.head.register_forward_hook(lambda module, inputs, output: output * 0)


def hooked_norm(model):
    model.norm_f.register_forward_hook(lambda module, inputs, output: output * 0)


def hooked_patches(model):
    model.patch_embed.register_forward_hook(lambda module, inputs, output: output * 0)


def other_head(model):
    model.head = nn.Linear(model.config.dim, 7)


def fresh_head(model):
    model.reset_classifier(7)
