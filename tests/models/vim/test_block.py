"""A block by one operation or by its layers: the same gradients, and the layers where one is hooked or replaced."""

import pytest
import torch
from torch import nn

import small_models
from cpp_kernels import needs_kernels
from rmeeto import TokenMerge
from rmeeto.models.layers import RMSNorm
from rmeeto.ops.impl import cpp
from small_models import images_of

pytestmark = needs_kernels


def model_of(*args, **options):
    return small_models.model_of(*args, **options).train()


@pytest.fixture
def calls(monkeypatch):
    """The norm's weight of each block that was one call."""
    found, run = [], cpp.mamba_block

    def count(x, residual, parameters, eps, scale):
        found.append(parameters.norm_weight)
        return run(x, residual, parameters, eps, scale)

    monkeypatch.setattr(cpp, "mamba_block", count)
    return found


def gradients_of(model, images):
    torch.manual_seed(2)  # drop path draws alike
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(images), torch.arange(len(images)))
    loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vim_tiny", {}),
        ("vim_tiny", {"drop_path_rate": 0.5}),
        ("vim_tiny", {"dim": 40, "state": 16, "conv_width": 2, "registers": 3}),
        ("videomamba_tiny", {}),
        ("videomamba_tiny", {"frames": 4}),
    ],
)
@pytest.mark.parametrize("reduction", [None, TokenMerge(r=5)])
def test_gradients_are_those_of_the_ordinary_way(name, options, reduction, calls):
    model = model_of(name, **options, reduction=reduction)
    images = images_of(model, batch=3)
    loss, found = gradients_of(model, images)
    assert [weight.data_ptr() for weight in calls] == [block.norm.weight.data_ptr() for block in model.layers]
    model.impl = "reference"
    expected_loss, expected = gradients_of(model, images)
    assert len(calls) == len(model.layers)
    torch.testing.assert_close(loss, expected_loss)
    for parameter, gradient in expected.items():
        largest = gradient.abs().max().item()
        torch.testing.assert_close(found[parameter], gradient, rtol=1e-3, atol=1e-5 * largest + 1e-9, msg=parameter)


def hooked(model):
    model.layers[1].mixer.x_proj.register_forward_hook(lambda module, inputs, output: output * 0)
    return 1


def hooked_on_the_way_back(model):
    model.layers[1].mixer.x_proj.register_full_backward_hook(lambda module, before, behind: None)
    return 1


def other_layer(model):
    mixer = model.layers[1].mixer
    mixer.out_proj = nn.Sequential(mixer.out_proj, nn.Dropout(0.0))
    return 1


def other_norm(model):
    class Shifted(RMSNorm):
        def add_residual(self, x, residual):
            normed, stream = super().add_residual(x, residual)
            return normed + 1, stream

    model.layers[1].norm = Shifted(24)
    return 1


def parametrised(model):
    nn.utils.parametrizations.weight_norm(model.layers[1].mixer.conv1d)
    return 1


def by_the_reference(model):
    model.impl = "reference"
    return 4


def read_inside(model):
    model.reduction = TokenMerge(r=5, features="C")
    return 1  # of four blocks, the one before a reduction


def in_float64(model):
    model.double()
    return 4


@pytest.mark.parametrize(
    "change",
    [hooked, hooked_on_the_way_back, other_layer, other_norm, parametrised, by_the_reference, read_inside, in_float64],
)
def test_the_ordinary_way_where_somebody_needs_it(change, calls):
    model = model_of()
    ordinary = change(model)
    model(images_of(model).to(model.pos_embed.dtype)).sum().backward()
    assert len(calls) == len(model.layers) - ordinary
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_autocast_and_inference_do_not_train(calls):
    model = model_of()
    images = images_of(model)
    with torch.autocast("cpu", torch.bfloat16):
        model(images).float().sum().backward()
    with torch.no_grad():
        model(images)
    assert not calls


def test_a_frozen_backbone_trains_its_head_alone():
    model = model_of()
    for parameter in model.layers.parameters():
        parameter.requires_grad_(False)
    model(images_of(model)).sum().backward()
    assert all(parameter.grad is None for parameter in model.layers.parameters())
    assert model.head.weight.grad is not None
    assert model.patch_embed.proj.weight.grad is not None


@pytest.mark.parametrize(
    ("change", "needs", "why"),
    [
        (hooked, (), "hook"),
        (hooked_on_the_way_back, (), "hook"),
        (other_layer, (), "out_proj is a Sequential, not a Linear"),
        (other_norm, (), "a Shifted stands in the place of a RMSNorm"),
        (by_the_reference, (), "impl='reference'"),
        (lambda model: 0, ("C",), "features"),
        (lambda model: 0, ("X",), None),
    ],
)
def test_a_block_says_why_its_layers_are_called(change, needs, why):
    model = model_of()
    tokens = model.embed(images_of(model))
    change(model)
    found = model.layers[1].why_layers(tokens, frozenset(needs))
    assert found is None if why is None else why in found
