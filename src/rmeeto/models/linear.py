"""A linear layer whose weight can be packed once, in the layout that the processor multiplies in.

An image has a few hundred tokens, and fewer after every reduction: too few to make up for bringing the weight into that
layout anew at each call, as PyTorch's products do. With packed weights the processor takes the same time per token
whether there are 58 of them or 1,576, so that tokens saved are time saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class Linear(nn.Linear):
    """:class:`torch.nn.Linear` that multiplies by a packed copy of its weight between :meth:`freeze` and :meth:`thaw`.

    Names and shapes of its parameters are those of its base class. Only inference on a processor packs; a step of
    training, another device and a compiled graph compute as ever. Loading, moving, converting or training the layer
    thaws it.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self._packed: dict[torch.dtype, Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """``x Wᵀ + bias`` of ``(…, in_features)``."""
        return self._product(input, self.bias)

    def product(self, x: Tensor) -> Tensor:
        """``x Wᵀ`` alone, for those who add the bias themselves."""
        return self._product(x, None)

    def _product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if self._packed is None or torch.compiler.is_compiling() or torch.is_grad_enabled() or not x.is_cpu:
            return F.linear(x, self.weight, bias)
        # under autocast, products are computed in its precision
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if dtype not in packing_dtypes():
            return F.linear(x, self.weight, bias)
        packed = self._packed.get(dtype)
        if packed is None:
            packed = self._packed[dtype] = pack(self.weight.detach().to(dtype))
        bias = None if bias is None else bias.to(dtype)
        return multiply(x.to(dtype), packed, bias)

    def freeze(self) -> None:
        """Take the weight as it is now, until :meth:`thaw`."""
        self._packed = {}

    def thaw(self) -> None:
        """Look at the weight at every call again."""
        self._packed = None

    def train(self, mode: bool = True) -> Linear:
        """As ever; training thaws."""
        if mode:
            self.thaw()
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Linear:
        self.thaw()
        return super()._apply(*args, **kwargs)  # type: ignore[no-any-return,no-untyped-call]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.thaw()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and files start thawed: a packed weight is opaque to both."""
        return {**self.__dict__, "_packed": None}


def freeze(model: Model) -> Model:
    """Make a model ready for inference: evaluation mode, and weights packed for the processor at their first use.

    Up to 1.5 times faster there, most for small batches and reduced models; on other devices only the mode changes.
    From now on the model goes by the weights it had, and holds a second copy of those of its linear layers, until
    :func:`thaw`, ``model.train()``, ``load_state_dict`` or a move to another device or dtype.

    >>> model = freeze(create_model("vim_tiny"))
    """
    model.eval()
    for layer in _layers(model):
        layer.freeze()
    return model


def thaw(model: Model) -> Model:
    """Undo what :func:`freeze` did to the weights; the mode stays."""
    for layer in _layers(model):
        layer.thaw()
    return model


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Freeze a model's weights as they are now, and leave its mode and whatever was thawed as it was found."""
    was_training, thawed = model.training, [layer for layer in _layers(model) if layer._packed is None]
    freeze(model)
    try:
        yield
    finally:
        for layer in thawed:
            layer.thaw()
        model.train(was_training)


def _layers(model: nn.Module) -> Iterator[Linear]:
    return (module for module in model.modules() if isinstance(module, Linear))


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
