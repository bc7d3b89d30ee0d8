"""The operations in plain PyTorch: the specification that every kernel is tested against.

Runs on any device and in any floating dtype, and autograd differentiates it to any order. Arithmetic is float64
for float64 inputs and float32 for everything else, whatever the storage, as in the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional


def unsupported_reasons(op_name: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return nothing: the reference takes whatever the operation's own shape checks let through."""
    return []


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    gate: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> Tensor:
    """Walk the tokens one by one; see `rmeeto.ops.selective_scan` for the meaning and the shapes."""
    storage, dtype = u.dtype, _arithmetic(u)
    with torch.autocast(u.device.type, enabled=False):
        u, delta, A, B, C = (x.to(dtype) for x in (u, delta, A, B, C))
        if delta_bias is not None:
            delta = delta + delta_bias.to(dtype)
        if delta_softplus:
            delta = functional.softplus(delta)

        steps = list(
            zip(
                delta.unsqueeze(-1).unbind(1),  # (b, e, 1)
                (delta * u).unsqueeze(-1).unbind(1),  # (b, e, 1)
                B.unsqueeze(2).unbind(1),  # (b, 1, n)
                C.unsqueeze(2).unbind(1),  # (b, 1, n)
                strict=True,
            )
        )
        h = u.new_zeros(u.shape[0], *A.shape)  # (b, e, n)
        outputs = []
        for delta_t, delta_u_t, B_t, C_t in reversed(steps) if reverse else steps:
            h = torch.exp(delta_t * A) * h + delta_u_t * B_t
            outputs.append((h * C_t).sum(-1))
        y = torch.stack(outputs[::-1] if reverse else outputs, dim=1)

        if skip is not None:
            y = y + skip.to(dtype) * u
        if gate is not None:
            y = y * functional.silu(gate.to(dtype))
        return y.to(storage)


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Add up shifted copies of ``x``; see `rmeeto.ops.causal_conv` for the meaning and the shapes."""
    storage, dtype, length, width = x.dtype, _arithmetic(x), x.shape[1], weight.shape[-1]
    with torch.autocast(x.device.type, enabled=False):
        taps = weight.to(dtype)[:, 0].unbind(-1)  # k of (e,), the newest token's last
        padding = (0, 0, 0, width - 1) if reverse else (0, 0, width - 1, 0)
        padded = functional.pad(x.to(dtype), padding)
        y = torch.zeros_like(x, dtype=dtype) if bias is None else bias.to(dtype).expand(x.shape)
        for start, tap in enumerate(reversed(taps) if reverse else taps):
            y = y + tap * padded[:, start : start + length]
        return (functional.silu(y) if silu else y).to(storage)


def selective_scan_backward(
    grad: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    gate: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """Return the gradients of u, delta, A, B, C, skip, gate, delta_bias; shape ``(0,)`` for absent ones."""
    forward = partial(selective_scan, delta_softplus=delta_softplus, reverse=reverse)
    return _differentiate(forward, (u, delta, A, B, C, skip, gate, delta_bias), grad)


def causal_conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> tuple[Tensor, ...]:
    """Return gradients of x, weight, bias; shape ``(0,)`` where there was no bias."""
    return _differentiate(partial(causal_conv, silu=silu, reverse=reverse), (x, weight, bias), grad)


def _arithmetic(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _differentiate(
    forward: Callable[..., Tensor], operands: Sequence[Tensor | None], grad: Tensor
) -> tuple[Tensor, ...]:
    """Run ``forward`` again, recorded this time, and pull ``grad`` back to every operand that is there."""
    with torch.enable_grad():
        leaves = [None if x is None else x.detach().requires_grad_() for x in operands]
        out = forward(*leaves)
    found = iter(torch.autograd.grad(out, [x for x in leaves if x is not None], grad))
    return tuple(grad.new_empty(0) if x is None else next(found).contiguous() for x in leaves)
