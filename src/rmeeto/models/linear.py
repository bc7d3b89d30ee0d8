"""A linear layer whose weight can be packed once, in the layout that the processor multiplies in.

An image has a few hundred tokens, and fewer after every reduction: too few to make up for bringing the weight into that
layout anew at each call, as PyTorch's products do. With packed weights the processor takes the same time per token
whether there are 58 of them or 1,576, so that tokens saved are time saved.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmeeto.models.freezing import Freezable
from rmeeto.ops.select import infers_on_processor


class Linear(Freezable[Tensor], nn.Linear):
    """:class:`torch.nn.Linear` that multiplies by a packed copy of its weight while it is frozen.

    Names and shapes of its parameters are those of its base class. Only inference on a processor packs; a step of
    training, another device and a compiled graph compute as ever.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``x Wᵀ + bias`` of ``(…, in_features)``."""
        return self._product(input, self.bias)

    def product(self, x: Tensor) -> Tensor:
        """``x Wᵀ`` alone, for those who add the bias themselves."""
        return self._product(x, None)

    def _product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if self.prepared is None or not infers_on_processor(x):
            return F.linear(x, self.weight, bias)
        dtype = product_dtype(x)
        if dtype not in packing_dtypes():
            return F.linear(x, self.weight, bias)
        bias = None if bias is None else bias.to(dtype)
        return multiply(x if x.dtype == dtype else x.to(dtype), self.packed(dtype), bias)

    def packed(self, dtype: torch.dtype) -> Tensor:
        """The weight for :func:`multiply`, kept while frozen."""
        if self.prepared is None:
            return pack(self.weight.detach().to(dtype))
        if dtype not in self.prepared:
            self.prepared[dtype] = pack(self.weight.detach().to(dtype))
        return self.prepared[dtype]


def adopt(model: nn.Module) -> None:
    """Turn the plain linear layers of somebody else's model into ones that can be frozen; parameters stay."""
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = Linear


def release(model: nn.Module) -> None:
    """Undo :func:`adopt`."""
    for layer in model.modules():
        if type(layer) is Linear:
            vars(layer).pop("prepared", None)
            layer.__class__ = nn.Linear  # type: ignore[assignment]


def product_dtype(x: Tensor) -> torch.dtype:
    """What a product of x is computed in: under autocast, in its precision."""
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
    """What this PyTorch and this processor can pack: float32, bfloat16, or nothing."""
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
