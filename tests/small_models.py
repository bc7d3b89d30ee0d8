"""Models so small that a test computes them several times, images for them, and what their processor must have."""

import pytest
import torch

from rmeeto import create_model
from rmeeto.ops.block import unsupported_reason

SIZES = {"img_size": 32, "patch_size": 4, "stride": 4, "dim": 24, "depth": 4, "state": 5, "num_classes": 7}
WITHOUT_BFLOAT16 = unsupported_reason(torch.bfloat16, states=16, width=4)
needs_bfloat16 = pytest.mark.skipif(WITHOUT_BFLOAT16 is not None, reason=f"no frozen blocks: {WITHOUT_BFLOAT16}")


def model_of(name="vim_tiny", **options):
    torch.manual_seed(0)
    return create_model(name, weights=None, **{**SIZES, **options}).eval()


def images_of(model, batch=2):
    torch.manual_seed(1)
    return torch.randn(batch, *model.config.input_size)
