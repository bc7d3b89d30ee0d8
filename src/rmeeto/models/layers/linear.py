"""Linear layers whose weight is packed once, in the layout that the processor multiplies in.

An image has a few hundred tokens, and fewer after every reduction: too few to make up for bringing the weight into that
layout at each call, as PyTorch's products do. With packed weights the processor takes the same time per token
whether there are 58 of them or 1,576, so that tokens saved are time saved.

The layers are `torch.nn.Linear` itself, so that other software which looks for that type (quantisation, adapters) finds
them. While a layer is frozen, :class:`PackedProduct` replaces its ``forward``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as modules_of_torch

from rmeeto.ops.select import infers_on_processor
from rmeeto.ops.watch import TensorWatch, is_watchable

FORWARD_HOOKS = (modules_of_torch._global_forward_hooks, modules_of_torch._global_forward_pre_hooks)
FORWARD = nn.Linear.forward  # other software may replace it, on frozen layers too


class PackedProduct:
    """``forward`` of a frozen layer: multiplies by a packed copy of its weight.

    The packed copy is used only in inference on a processor. Training, other devices and compiled graphs use PyTorch's
    product. A changed weight is packed again. Copies and saved files of the layer are not frozen.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self.packed: dict[torch.dtype, tuple[Tensor, TensorWatch, Tensor]] = {}  # the weight, how it was, and packed

    def __call__(self, input: Tensor) -> Tensor:
        """``x Wᵀ + bias`` of ``(…, in_features)``."""
        if nn.Linear.forward is not FORWARD:
            return nn.Linear.forward(self.layer, input)
        return self.product(input, self.layer.bias)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """``x Wᵀ``, with a bias if one is given."""
        weight = self.layer.weight
        if self.layer.training or not infers_on_processor(x) or not is_watchable(weight):
            return F.linear(x, weight, bias)
        dtype = product_dtype(x)
        if dtype not in packing_dtypes():
            return F.linear(x, weight, bias)
        bias = None if bias is None else bias.to(dtype)
        return multiply(x if x.dtype == dtype else x.to(dtype), self._packed(weight, dtype), bias)

    def _packed(self, weight: Tensor, dtype: torch.dtype) -> Tensor:
        of, watch, packed = self.packed.get(dtype, (None, None, None))
        if of is not weight or watch is None or packed is None or not watch.is_same():
            watch, packed = TensorWatch([weight]), pack(weight.detach().to(dtype))
            self.packed[dtype] = weight, watch, packed
        return packed

    def __reduce__(self) -> tuple[Any, ...]:
        return OrdinaryForward, (self.layer,)


class OrdinaryForward:
    """``forward`` of a copy of a frozen layer: that of its class."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer

    def __call__(self, input: Tensor) -> Tensor:
        """``x Wᵀ + bias`` of ``(…, in_features)``."""
        return nn.Linear.forward(self.layer, input)


def freeze_layer(layer: nn.Module) -> None:
    """Let a linear layer multiply by a packed copy of its weight, unless its ``forward`` has been replaced."""
    if type(layer) is nn.Linear and has_own_forward(layer):
        vars(layer)["forward"] = PackedProduct(layer)


def thaw_layer(layer: nn.Module) -> None:
    """Undo :func:`freeze_layer`."""
    if is_frozen_layer(layer):
        del vars(layer)["forward"]


def is_frozen_layer(layer: nn.Module) -> bool:
    """Whether :func:`freeze_layer` has frozen the layer."""
    return type(vars(layer).get("forward")) is PackedProduct


def has_own_forward(module: nn.Module) -> bool:
    """Whether a module computes by the ``forward`` of its class, packed or not."""
    forward = module.forward
    return (
        type(forward) in (PackedProduct, OrdinaryForward) or getattr(forward, "__func__", None) is type(module).forward
    )


def product_and_bias(layer: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """``x Wᵀ`` and the bias ``(out,)``, for callers that add the bias themselves.

    A layer that computes more than the two (quantised, adapted, parametrised, with hooks) gives its output, and zeros.
    """
    if is_plain(layer) and layer.bias is not None:
        forward = layer.forward
        return forward.product(x) if type(forward) is PackedProduct else F.linear(x, layer.weight), layer.bias
    product = layer(x)
    return product, product.new_zeros(product.shape[-1:])


def is_plain(layer: nn.Module) -> bool:
    """Whether a call of a layer is a plain product."""
    if type(layer) is not nn.Linear or not has_own_forward(layer) or nn.Linear.forward is not FORWARD:
        return False
    return not (layer._forward_hooks or layer._forward_pre_hooks or any(FORWARD_HOOKS))


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype of a product of x, or by a weight x, on a processor: x's, or autocast's."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


# oneDNN's products, as PyTorch's own compiler calls them.


def pack(weight: Tensor) -> Tensor:
    """A ``(out, in)`` weight in oneDNN's layout."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)  # type: ignore[no-any-return]


def multiply(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """``x Wᵀ + bias``."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")  # type: ignore[no-any-return]


@cache
def packing_dtypes() -> frozenset[torch.dtype]:
    """The dtypes that this PyTorch can pack on this processor: float32, bfloat16, or none."""
    return frozenset(dtype for dtype in (torch.float32, torch.bfloat16) if _packs(dtype))


def _packs(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        one = torch.ones(1, 1, dtype=dtype)
        return multiply(one, pack(one), None).item() == 1
    except (AttributeError, RuntimeError):  # operations that carry an underscore may change
        return False
