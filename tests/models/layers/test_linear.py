"""Packed weights: the same products, and never a stale one."""

import copy
import io

import pytest
import torch
from torch import nn

from rmeeto import TokenMerge, create_model, freeze, thaw
from rmeeto.models.inference.freezing import frozen
from rmeeto.models.layers.linear import is_frozen_layer, packing_dtypes, product_and_bias

needs_packing = pytest.mark.skipif(
    torch.float32 not in packing_dtypes(), reason="PyTorch has no oneDNN here, which packs the weights"
)


def layer(bias=True):
    torch.manual_seed(0)
    return nn.Linear(24, 40, bias=bias).eval()


def product(one, x):
    return product_and_bias(one, x)[0]


@needs_packing
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (7, 24), (2, 5, 24), (0, 24)])
def test_a_frozen_layer_computes_the_same(bias, shape):
    one, x = layer(bias), torch.randn(shape)
    with torch.no_grad():
        expected, alone = one(x), product(one, x)
        freeze(one)
        torch.testing.assert_close(one(x), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(product(one, x), alone, rtol=1e-5, atol=1e-6)
    assert one.forward.packed, "nothing was packed"


@needs_packing
def test_a_slice_of_a_larger_tensor_is_read_right():
    one, wide = layer(), torch.randn(2, 5, 60)
    with torch.no_grad():
        expected = one(wide[..., 30:54])
        freeze(one)
        torch.testing.assert_close(one(wide[..., 30:54]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(torch.bfloat16 not in packing_dtypes(), reason="oneDNN multiplies no bfloat16 on this processor")
def test_autocast_packs_in_its_own_precision():
    one, x = layer(), torch.randn(9, 24)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = one(x)
        freeze(one)
        found = one(x)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    assert list(one.forward.packed) == [torch.bfloat16]


def test_gradients_flow_through_a_frozen_layer():
    one, x = layer(), torch.randn(3, 24, requires_grad=True)
    freeze(one)
    one(x).sum().backward()
    torch.testing.assert_close(x.grad, one.weight.sum(0).expand(3, 24))
    assert one.weight.grad is not None


def test_float64_is_computed_in_float64():
    one, x = layer().double(), torch.randn(3, 24, dtype=torch.float64)
    freeze(one)
    with torch.no_grad():
        torch.testing.assert_close(one(x), x @ one.weight.T + one.bias, rtol=1e-14, atol=1e-14)


def linear_layers(model):
    return [module for module in model.modules() if type(module) is nn.Linear]


def doubled(one):
    return {name: 2 * value for name, value in one.state_dict().items()}


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.load_state_dict(doubled(one)),
        lambda one: (one.train(), one.weight.data.mul_(2), one.bias.data.mul_(2), one.eval()),
        lambda one: (one.weight.data.mul_(2), one.bias.data.mul_(2), freeze(one)),
        lambda one: (one.weight.data.mul_(2), one.bias.data.mul_(2), thaw(one)),
        lambda one: (one.weight.data.mul_(2), one.bias.data.mul_(2), one.to(torch.float64), one.to(torch.float32)),
    ],
    ids=["load", "train", "freeze", "thaw", "move"],
)
def test_whatever_changes_the_weights_is_seen(change):
    one, x = layer(), torch.randn(3, 24)
    with torch.no_grad():
        freeze(one)
        before = one(x)
        change(one)
        torch.testing.assert_close(one(x), 2 * before)


def test_copies_and_files_start_thawed():
    one, x = layer(), torch.randn(3, 24)
    with torch.no_grad():
        freeze(one)
        expected = one(x)
        other, file = copy.deepcopy(one), io.BytesIO()
        torch.save(one, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        for copied in (other, loaded):
            assert not is_frozen_layer(copied)
            torch.testing.assert_close(copied(x), expected)


@needs_packing
def test_a_frozen_model_says_the_same():
    model = create_model("vim_tiny", dim=32, depth=4, img_size=32, patch_size=4, stride=4, reduction=TokenMerge(r=8))
    model.train()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = model.eval()(images)
        assert freeze(model) is model
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)
        assert all(map(is_frozen_layer, linear_layers(model)))
        thaw(model)
        assert not any(map(is_frozen_layer, linear_layers(model)))


def test_frozen_leaves_the_model_as_it_found_it():
    model = create_model("vim_tiny", dim=16, depth=2, img_size=16, patch_size=4, stride=4).train()
    layers = linear_layers(model)
    with frozen(model):
        assert not model.training
        assert all(map(is_frozen_layer, layers))
    assert model.training
    assert not any(map(is_frozen_layer, layers))
    freeze(layers[0])
    model.eval()
    with frozen(model):
        pass
    assert is_frozen_layer(layers[0])
    assert not is_frozen_layer(layers[1])


def test_a_compiled_model_does_without_packed_weights():
    one, x = layer().eval(), torch.randn(4, 24)
    freeze(one)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(one, fullgraph=True, backend="eager")(x), layer()(x))
    assert not one.forward.packed


def test_layers_are_of_the_type_that_other_software_looks_for():
    model = freeze(create_model("vim_tiny", dim=16, depth=2, img_size=16, patch_size=4, stride=4))
    assert len(linear_layers(model)) == 2 * 6 + 1


def test_a_forward_of_ones_own_stays():
    one, x = layer(), torch.randn(3, 24)
    one.forward = lambda x: x * 0
    with torch.no_grad():
        assert freeze(one)(x).equal(x * 0)
        assert thaw(one)(x).equal(x * 0)
