"""Parameters that are not plain memory, and layers that other software puts in the place of ours, are used."""

from contextlib import suppress

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from cpp_kernels import needs_kernels
from rmeeto import TokenMerge, freeze
from rmeeto.errors import UnsupportedInput
from small_models import images_of, model_of

pytestmark = needs_kernels
aten = torch.ops.aten


class Wrapped(torch.Tensor):
    """A tensor without memory of its own, as quantised and distributed ones are: it is unwrapped where it is used."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, requires_grad=False)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function in (aten.detach.default, aten.alias.default):
            return cls(args[0].inner)
        args, kwargs = tree_map(lambda x: x.inner if isinstance(x, cls) else x, (args, kwargs or {}))
        return function(*args, **kwargs)


def wrap(module, name):
    module.register_parameter(name, nn.Parameter(Wrapped(getattr(module, name).detach()), requires_grad=False))


def linear_weights(model):
    return [(module, "weight") for module in model.modules() if isinstance(module, nn.Linear)]


def all_parameters(model):
    return [(module, name) for module in model.modules() for name, _ in module.named_parameters(recurse=False)]


def one_weight(model):
    return [(model.layers[2].mixer.in_proj, "weight")]


def mode(grad):
    return torch.enable_grad() if grad else torch.inference_mode()


@pytest.mark.parametrize("of", [linear_weights, all_parameters, one_weight])
@pytest.mark.parametrize("features", ["X", "C"])
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "inference"])
@pytest.mark.parametrize("is_frozen", ["thawed", "frozen", "frozen before"])
def test_parameters_without_memory_are_unwrapped_not_read(of, features, grad, is_frozen):
    model = model_of(reduction=TokenMerge(r=5, features=features))
    images = images_of(model)
    expected = model(images)
    if is_frozen == "frozen before":
        with torch.inference_mode():
            freeze(model)(images)
    for module, name in of(model):
        wrap(module, name)
    if is_frozen == "frozen":
        freeze(model)
    with mode(grad):
        for _ in range(2):
            torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("features", ["X", "C"])
def test_weights_without_memory_train_what_else_there_is(features):
    model = model_of(reduction=TokenMerge(r=5, features=features)).train()
    for module, name in linear_weights(model):
        wrap(module, name)
    model(images_of(model)).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


class OnMeta:
    """Weights that are still to be made."""

    @staticmethod
    def of(weight):
        return nn.Parameter(weight.detach().to("meta"))


class Sparse:
    """Weights most of which are zero."""

    @staticmethod
    def of(weight):
        return nn.Parameter(weight.detach().to_sparse())


class Uninitialised:
    """Weights whose shape is still to be known."""

    @staticmethod
    def of(weight):
        return nn.UninitializedParameter()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((kind, name) for kind in (Sparse, Uninitialised) for name in ("mixer.in_proj.weight", "mixer.A_log")),
        *((kind, "mixer.conv1d.weight") for kind in (OnMeta, Sparse, Uninitialised)),
        *((OnMeta, name) for name in ("mixer.A_log", "norm.weight")),
    ],
)
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "inference"])
def test_parameters_that_are_no_plain_memory_are_never_read_as_if_they_were(kind, grad, name):
    """PyTorch multiplies by sparse weights; all else is refused."""
    model = freeze(model_of())
    expected = model(images_of(model))
    module, _, parameter = f"layers.1.{name}".rpartition(".")
    module = model.get_submodule(module)
    setattr(module, parameter, kind.of(getattr(module, parameter)))
    with mode(grad), suppress(RuntimeError, ValueError, NotImplementedError, UnsupportedInput):
        torch.testing.assert_close(model(images_of(model)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.skipif(torch.backends.quantized.engine == "none", reason="this PyTorch does not quantise")
@pytest.mark.parametrize("order", ["quantised", "then frozen", "frozen before"])
def test_dynamic_quantisation_quantises_all_linear_layers(order):
    model = model_of(dim=32)
    images = images_of(model)
    exact = model(images)
    if order == "frozen before":
        with torch.inference_mode():
            freeze(model)(images)
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, inplace=order == "frozen before")
    if order == "then frozen":
        freeze(quantised)
    assert not [module for module in quantised.modules() if type(module) is nn.Linear]
    for grad in (True, False):
        with mode(grad):
            found = quantised(images)
        assert not torch.equal(found, exact)
        torch.testing.assert_close(found, exact, rtol=0.1, atol=0.05 * exact.abs().max().item())
