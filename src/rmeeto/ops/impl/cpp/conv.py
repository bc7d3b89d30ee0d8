"""The causal convolution, forward and backward."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

import torch
from torch import Tensor

from rmeeto.ops.impl.cpp.loading import call
from rmeeto.ops.impl.cpp.operands import STORAGE, Tokens, in_dtype_of, parameter, pointer, readable, tokens


class _Conv(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "channels", "width")),
        *((name, c_int64) for name in ("storage", "silu", "reverse")),
        *((name, Tokens) for name in ("x", "out")),
        *((name, c_void_p) for name in ("weight", "bias")),
        *((name, Tokens) for name in ("grad", "dx")),
        ("is_added", c_int64),
        *((name, c_void_p) for name in ("dweight", "dbias")),
    )


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Compute `rmeeto.ops.causal_conv`."""
    dtype, x, weight, bias = x.dtype, readable(x), weight.to(torch.float32).contiguous(), parameter(bias)
    out = x.new_empty(x.shape)
    problem = _Conv(
        *(*x.shape, weight.shape[2]),
        *(STORAGE[x.dtype], silu, reverse),
        *(tokens(x), tokens(out), pointer(weight), pointer(bias)),
    )
    call("causal_conv", problem)
    return out.to(dtype)


def causal_conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> tuple[Tensor, ...]:
    """Compute the gradients of x, weight, bias; shape ``(0,)`` for an absent bias."""
    operands = (x, weight, bias)
    grad, x, weight, bias = readable(grad), readable(x), weight.to(torch.float32).contiguous(), parameter(bias)
    dx, dweight, dbias = gradients = [None if t is None else t.new_empty(t.shape) for t in (x, weight, bias)]
    problem = _Conv(
        *(*x.shape, weight.shape[2]),
        *(STORAGE[x.dtype], silu, reverse),
        *(tokens(x), tokens(None), pointer(weight), pointer(bias)),
        *(tokens(grad), tokens(dx), False, pointer(dweight), pointer(dbias)),
    )
    call("causal_conv_backward", problem)
    return tuple(in_dtype_of(o, g, x) for o, g in zip(operands, gradients, strict=True))
