"""Join the residual stream and normalise, forward and backward."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64, c_void_p

import torch
from torch import Tensor

from rmeeto.ops.impl.cpp.loading import call
from rmeeto.ops.impl.cpp.operands import STORAGE, Tokens, pointer, readable, tokens


class _Norm(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "channels", "x_storage", "out_storage")),
        ("eps", c_double),
        *((name, Tokens) for name in ("x", "residual", "stream", "out")),
        ("weight", c_void_p),
        *((name, Tokens) for name in ("grad", "grad_stream", "dstream")),
        ("dweight", c_void_p),
    )


def add_norm(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Compute `rmeeto.ops.add_norm`."""
    x, weight = readable(x), weight.to(torch.float32).contiguous()
    residual = None if residual is None else readable(residual)
    stored = dtype if dtype in STORAGE else torch.float32
    out, stream = x.new_empty(x.shape, dtype=stored), x.new_empty(x.shape, dtype=torch.float32)
    problem = _Norm(
        *(*x.shape, STORAGE[x.dtype], STORAGE[stored], eps),
        *(tokens(operand) for operand in (x, residual, stream, out)),
        pointer(weight),
    )
    call("add_norm", problem)
    return out.to(dtype), stream


def add_norm_backward(
    grad: Tensor, grad_stream: Tensor, stream: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of the stream and of the weight."""
    grad = readable(grad if grad.dtype in STORAGE else grad.to(torch.float32))
    grad_stream, scale = readable(grad_stream), weight.to(torch.float32).contiguous()
    dstream, dweight = stream.new_empty(stream.shape), torch.empty_like(scale)
    problem = _Norm(
        *(*stream.shape, STORAGE[torch.float32], STORAGE[grad.dtype], eps),
        *(tokens(operand) for operand in (None, None, stream, None)),
        pointer(scale),
        *(tokens(operand) for operand in (grad, grad_stream, dstream)),
        pointer(dweight),
    )
    call("add_norm_backward", problem)
    return dstream, dweight.to(weight.dtype)
