"""Activation checkpointing by PyTorch's own means: the gradients are those without it."""

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.utils.checkpoint import checkpoint

from rmeeto import TokenMerge
from rmeeto.models.vim.block import Block
from small_models import images_of, model_of


def gradients_of(model, forward):
    """Logits and all gradients; drop path draws alike in every call."""
    torch.manual_seed(2)
    model.zero_grad()
    logits = forward(images_of(model, batch=3))
    nn.functional.cross_entropy(logits, torch.arange(3)).backward()
    return logits.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_equal(found, expected):
    """Bit for bit."""
    assert torch.equal(found[0], expected[0])
    # a wrapper stands in the name of what it wraps
    gradients = {name.replace("_checkpoint_wrapped_module.", ""): gradient for name, gradient in found[1].items()}
    assert gradients.keys() == expected[1].keys()
    different = [name for name, gradient in expected[1].items() if not torch.equal(gradients[name], gradient)]
    assert not different


def assert_close(found, expected):
    torch.testing.assert_close(found[0], expected[0])
    for name, gradient in expected[1].items():
        largest = gradient.abs().max().item()
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-5 * largest + 1e-9, msg=name)


MODELS = pytest.mark.parametrize(
    ("name", "options"),
    [("vim_tiny", {}), ("vim_tiny", {"drop_path_rate": 0.5}), ("videomamba_tiny", {"frames": 4})],
)
REDUCTIONS = pytest.mark.parametrize("reduction", [None, TokenMerge(r=5), TokenMerge(r=5, features="C")], ids=str)


@MODELS
@REDUCTIONS
def test_of_the_whole_model(name, options, reduction):
    model = model_of(name, **options, reduction=reduction).train()
    expected = gradients_of(model, model)
    assert_equal(gradients_of(model, lambda images: checkpoint(model, images, use_reentrant=False)), expected)


@MODELS
@REDUCTIONS
def test_of_the_whole_model_the_older_way(name, options, reduction):
    """Its forward pass runs without gradients, by other kernels: the last bits of the logits may differ."""
    model = model_of(name, **options, reduction=reduction).train()
    expected = gradients_of(model, model)
    found = gradients_of(model, lambda images: checkpoint(model, images.requires_grad_(), use_reentrant=True))
    assert_close(found, expected)


@MODELS
@REDUCTIONS
def test_of_every_block(name, options, reduction):
    model = model_of(name, **options, reduction=reduction).train()
    expected = gradients_of(model, model)
    apply_activation_checkpointing(model, check_fn=lambda module: isinstance(module, Block))
    assert type(model.layers[0]) is not Block
    assert_equal(gradients_of(model, model), expected)


def test_of_every_block_in_bfloat16():
    model = model_of(reduction=TokenMerge(r=5)).train()

    def forward(images):
        with torch.autocast("cpu", torch.bfloat16):
            return model(images).float()

    expected = gradients_of(model, forward)
    apply_activation_checkpointing(model, check_fn=lambda module: isinstance(module, Block))
    assert_equal(gradients_of(model, forward), expected)


def test_saved_tensors_may_be_kept_elsewhere_and_in_another_layout():
    model = model_of(reduction=TokenMerge(r=5)).train()
    expected = gradients_of(model, model)

    def forward(images):
        pack, unpack = lambda x: (x.mT if x.ndim > 1 else x).contiguous(), lambda x: x.mT if x.ndim > 1 else x
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return model(images)

    assert_close(gradients_of(model, forward), expected)
