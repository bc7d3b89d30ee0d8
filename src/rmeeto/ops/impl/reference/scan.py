"""The selective scan and its gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from rmeeto.ops.autocast import without_autocast
from rmeeto.ops.impl.reference.arithmetic import arithmetic, silu_slope, stored
from rmeeto.ops.operands import ScanOperands


def selective_scan(operands: ScanOperands, delta_softplus: bool, reverse: bool) -> Tensor:
    """Walk the tokens one by one; see `rmeeto.ops.selective_scan` for the meaning and the shapes."""
    u, delta, A, B, C, skip, gate, delta_bias = operands
    storage, dtype = u.dtype, arithmetic(u)
    with without_autocast(u):
        u, delta, A, B, C = (x.to(dtype) for x in (u, delta, A, B, C))
        if delta_bias is not None:
            delta = delta + delta_bias.to(dtype)
        if delta_softplus:
            delta = functional.softplus(delta)

        steps = list(_steps(delta, delta * u, B, C))
        h = u.new_zeros(u.shape[0], *A.shape)  # (b, e, n)
        outputs = []
        for delta_t, drive_t, B_t, C_t in reversed(steps) if reverse else steps:
            h = torch.exp(delta_t * A) * h + drive_t * B_t
            outputs.append((h * C_t).sum(-1))
        y = torch.stack(outputs[::-1] if reverse else outputs, dim=1)

        if skip is not None:
            y = y + skip.to(dtype) * u
        if gate is not None:
            y = y * functional.silu(gate.to(dtype))
        return y.to(storage)


def selective_scan_backward(
    grad: Tensor, operands: ScanOperands, delta_softplus: bool, reverse: bool
) -> tuple[Tensor, ...]:
    """Return the gradients of u, delta, A, B, C, skip, gate, delta_bias; shape ``(0,)`` for absent ones.

    With dy the gradient before the gate and dh_t that of h_t through everything the walk does after it::

        dh_t = dy_t * C_t + exp(d_{t+1} * A) * dh_{t+1}
        dB_t = sum_e(dh_t * d_t * u_t)               dC_t = sum_e(dy_t * h_t)
        w_t  = dh_t * exp(d_t * A) * h_{t-1}         dA   = sum_t(w_t * d_t)
        dd_t = u_t * sum_n(dh_t * B_t) + sum_n(w_t * A)
        du_t = d_t * sum_n(dh_t * B_t) + dy_t * skip
    """
    u, delta, A, B, C, skip, gate, delta_bias = operands
    dtype = arithmetic(u)
    grad, u, delta, A, B, C = (x.to(dtype) for x in (grad, u, delta, A, B, C))
    slope = torch.ones_like(delta)
    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype)
    if delta_softplus:
        slope, delta = torch.sigmoid(delta), functional.softplus(delta)
    dy = grad if gate is None else grad * functional.silu(gate.to(dtype))

    walk = list(zip(_steps(delta, delta * u, B, C), dy.unsqueeze(-1).unbind(1), strict=True))
    walk = walk[::-1] if reverse else walk
    states = [u.new_zeros(u.shape[0], *A.shape)]
    for (delta_t, drive_t, B_t, _), _ in walk:
        states.append(torch.exp(delta_t * A) * states[-1] + drive_t * B_t)

    dA, passed, sums = torch.zeros_like(A), torch.zeros_like(states[0]), []
    for (delta_t, drive_t, B_t, C_t), dy_t in reversed(walk):
        h = states.pop()
        dh = dy_t * C_t + passed
        passed = torch.exp(delta_t * A) * dh
        w = passed * states[-1]
        dA = dA + (w * delta_t).sum(0)
        over_channels = (dh * drive_t).sum(1), (dy_t * h).sum(1)
        sums.append((*over_channels, (dh * B_t).sum(-1), (w * A).sum(-1), (h * C_t).sum(-1)))
    in_order = sums if reverse else sums[::-1]
    dB, dC, dh_B, w_A, y = (torch.stack(of_tokens, dim=1) for of_tokens in zip(*in_order, strict=True))

    du, ddelta = delta * dh_B, (u * dh_B + w_A) * slope
    dskip = dgate = ddelta_bias = None
    if skip is not None:
        y, du, dskip = y + skip.to(dtype) * u, du + dy * skip.to(dtype), (dy * u).sum((0, 1))
    if gate is not None:
        dgate = grad * y * silu_slope(gate.to(dtype))
    if delta_bias is not None:
        ddelta_bias = ddelta.sum((0, 1))
    return stored((du, ddelta, dA, dB, dC, dskip, dgate, ddelta_bias), operands)


def _steps(delta: Tensor, drive: Tensor, B: Tensor, C: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield each token's step size and drive (b, e, 1), and its B and C (b, 1, n)."""
    per_channel = (x.unsqueeze(-1).unbind(1) for x in (delta, drive))
    per_state = (x.unsqueeze(2).unbind(1) for x in (B, C))
    return zip(*per_channel, *per_state, strict=True)
