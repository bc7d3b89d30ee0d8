"""Packed weights: the same products, and never a stale one."""

import copy
import io

import pytest
import torch

from rmeeto import TokenMerge, create_model, freeze, thaw
from rmeeto.models.freezing import Freezable, frozen
from rmeeto.models.linear import Linear, packing_dtypes

needs_packing = pytest.mark.skipif(
    torch.float32 not in packing_dtypes(), reason="PyTorch has no oneDNN here, which packs the weights"
)


def layer(bias=True):
    torch.manual_seed(0)
    return Linear(24, 40, bias=bias)


@needs_packing
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (7, 24), (2, 5, 24), (0, 24)])
def test_a_frozen_layer_computes_the_same(bias, shape):
    one, x = layer(bias), torch.randn(shape)
    with torch.no_grad():
        expected, product = one(x), one.product(x)
        one.freeze()
        torch.testing.assert_close(one(x), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one.product(x), product, rtol=1e-5, atol=1e-6)
    assert one.prepared, "nothing was packed"


@needs_packing
def test_a_slice_of_a_larger_tensor_is_read_right():
    one, wide = layer(), torch.randn(2, 5, 60)
    with torch.no_grad():
        expected = one(wide[..., 30:54])
        one.freeze()
        torch.testing.assert_close(one(wide[..., 30:54]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(torch.bfloat16 not in packing_dtypes(), reason="oneDNN multiplies no bfloat16 on this processor")
def test_autocast_packs_in_its_own_precision():
    one, x = layer(), torch.randn(9, 24)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = one(x)
        one.freeze()
        found = one(x)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    assert list(one.prepared) == [torch.bfloat16]


def test_gradients_flow_through_a_frozen_layer():
    one, x = layer(), torch.randn(3, 24, requires_grad=True)
    one.freeze()
    one(x).sum().backward()
    torch.testing.assert_close(x.grad, one.weight.sum(0).expand(3, 24))
    assert one.weight.grad is not None


def test_float64_is_computed_in_float64():
    one, x = layer().double(), torch.randn(3, 24, dtype=torch.float64)
    one.freeze()
    with torch.no_grad():
        torch.testing.assert_close(one(x), x @ one.weight.T + one.bias, rtol=1e-14, atol=1e-14)


def doubled(one):
    return {name: 2 * value for name, value in one.state_dict().items()}


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.load_state_dict(doubled(one)),
        lambda one: (one.train(), one.weight.data.mul_(2), one.bias.data.mul_(2), one.eval()),
        lambda one: (one.weight.data.mul_(2), one.bias.data.mul_(2), one.freeze()),
        lambda one: (one.weight.data.mul_(2), one.bias.data.mul_(2), one.thaw()),
        lambda one: (one.weight.data.mul_(2), one.bias.data.mul_(2), one.to(torch.float64), one.to(torch.float32)),
    ],
    ids=["load", "train", "freeze", "thaw", "move"],
)
def test_whatever_changes_the_weights_thaws(change):
    one, x = layer(), torch.randn(3, 24)
    with torch.no_grad():
        one.freeze()
        before = one(x)
        change(one)
        torch.testing.assert_close(one(x), 2 * before)


def test_copies_and_files_start_thawed():
    one, x = layer(), torch.randn(3, 24)
    with torch.no_grad():
        one.freeze()
        expected = one(x)
        other, file = copy.deepcopy(one), io.BytesIO()
        torch.save(one, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        for copied in (other, loaded):
            assert copied.prepared is None
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
        assert any(m.prepared for m in model.modules() if isinstance(m, Freezable))
        thaw(model)
        assert all(m.prepared is None for m in model.modules() if isinstance(m, Linear))


def test_frozen_leaves_the_model_as_it_found_it():
    model = create_model("vim_tiny", dim=16, depth=2, img_size=16, patch_size=4, stride=4).train()
    layers = [m for m in model.modules() if isinstance(m, Linear)]
    with frozen(model):
        assert not model.training
        assert all(m.prepared is not None for m in layers)
    assert model.training
    assert all(m.prepared is None for m in layers)
    layers[0].freeze()
    model.eval()
    with frozen(model):
        pass
    assert layers[0].prepared is not None
    assert layers[1].prepared is None


def test_a_compiled_model_does_without_packed_weights():
    one, x = layer().eval(), torch.randn(4, 24)
    one.freeze()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(one, fullgraph=True, backend="eager")(x), layer()(x))
    assert not one.prepared
