"""Join the residual stream and normalise it, with the gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from rmeeto.ops.impl.reference.arithmetic import arithmetic


def add_norm(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Add, then scale by the inverse root mean square; see `rmeeto.ops.add_norm` for the meaning and the shapes."""
    exact = arithmetic(x)
    stream = x.to(exact, copy=True) if residual is None else residual + x.to(exact)
    return (stream * _inverse_rms(stream, eps) * weight.to(exact)).to(dtype), stream


def add_norm_backward(
    grad: Tensor, grad_stream: Tensor, stream: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the stream and of the weight."""
    grad, scale = grad.to(stream.dtype), _inverse_rms(stream, eps)
    inward = grad * weight.to(stream.dtype)
    pull = scale**3 * (inward * stream).mean(-1, keepdim=True)
    dweight = (grad * stream * scale).sum((0, 1))
    return (scale * inward - pull * stream + grad_stream).contiguous(), dweight.to(weight.dtype)


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    return torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
