"""The causal convolution and its gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rmeeto.ops.autocast import without_autocast
from rmeeto.ops.impl.reference.arithmetic import arithmetic, silu_slope, stored


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Add up shifted copies of ``x``; see `rmeeto.ops.causal_conv` for the meaning and the shapes."""
    storage, dtype = x.dtype, arithmetic(x)
    with without_autocast(x):
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        y = _convolved(x, weight, bias, reverse)
        return (functional.silu(y) if silu else y).to(storage)


def causal_conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> tuple[Tensor, ...]:
    """Return the gradients of x, weight, bias; shape ``(0,)`` where there was no bias."""
    operands, dtype, length = (x, weight, bias), arithmetic(x), x.shape[1]
    grad, x, weight, bias = grad.to(dtype), x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if silu:
        grad = grad * silu_slope(_convolved(x, weight, bias, reverse))
    padded, of_taps = _padded(x, weight, reverse), []
    dpadded, extra = torch.zeros_like(padded), weight.shape[-1] - 1
    for tap, start in _taps(weight, reverse):
        of_taps.append((grad * padded[:, start : start + length]).sum((0, 1)))
        dpadded = dpadded + functional.pad(weight[:, 0, tap] * grad, (0, 0, start, extra - start))
    dweight = torch.stack(of_taps, dim=-1).unsqueeze(1)
    dx = dpadded[:, :length] if reverse else dpadded[:, -length:]
    return stored((dx, dweight, None if bias is None else grad.sum((0, 1))), operands)


def _taps(weight: Tensor, reverse: bool) -> list[tuple[int, int]]:
    """Return each tap with the place in the padded sequence where it starts reading."""
    width = weight.shape[-1]
    return [(tap, width - 1 - tap if reverse else tap) for tap in range(width)]


def _padded(x: Tensor, weight: Tensor, reverse: bool) -> Tensor:
    extra = weight.shape[-1] - 1
    return functional.pad(x, (0, 0, 0, extra) if reverse else (0, 0, extra, 0))


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, reverse: bool) -> Tensor:
    padded, y = _padded(x, weight, reverse), torch.zeros_like(x) if bias is None else bias.expand(x.shape)
    for tap, start in _taps(weight, reverse):
        y = y + weight[:, 0, tap] * padded[:, start : start + x.shape[1]]
    return y
