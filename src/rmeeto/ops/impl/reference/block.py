"""A whole Mamba block, built from the other plain operations, and its gradients, built from theirs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rmeeto.ops.autocast import without_autocast
from rmeeto.ops.impl.reference.arithmetic import silu_slope
from rmeeto.ops.impl.reference.conv import causal_conv, causal_conv_backward
from rmeeto.ops.impl.reference.norm import add_norm, add_norm_backward
from rmeeto.ops.impl.reference.scan import selective_scan, selective_scan_backward
from rmeeto.ops.operands import ROOM, BlockKept, BlockParameters, DirectionParameters, ScanOperands


def mamba_block(
    x: Tensor, residual: Tensor | None, parameters: BlockParameters, eps: float, scale: float
) -> tuple[Tensor, BlockKept]:
    """Compute operation by operation; see `rmeeto.ops.mamba_block` for the meaning and the shapes."""
    p, dtype = parameters, parameters.in_proj.dtype
    with without_autocast(x):
        normed, stream = add_norm(x, residual, p.norm_weight, eps, dtype)
        projected = functional.linear(normed, p.in_proj)
        u, gate = projected.chunk(2, dim=-1)
        y, b_and_c, dt = zip(_walk(u, p.forward, False), _walk(u, p.backward, True), strict=True)
        walked = y[0] + y[1]
        out = functional.linear(walked * functional.silu(gate), p.out_proj) * scale
        return out, BlockKept(stream, torch.stack(b_and_c), torch.stack(dt), normed, projected, walked)


def mamba_block_backward(
    grad: Tensor, grad_stream: Tensor, kept: BlockKept, parameters: BlockParameters, eps: float, scale: float
) -> tuple[Tensor, BlockParameters]:
    """Return the gradients of the residual stream (grad_stream in it) and of all parameters."""
    p, (u, gate) = parameters, kept.projected.chunk(2, dim=-1)
    grad, opened = grad * scale, functional.silu(gate)
    dgated = grad @ p.out_proj
    dy, dgate = dgated * opened, dgated * kept.walked * silu_slope(gate)
    du, forward = _walk_backward(dy, u, kept.b_and_c[0], kept.dt[0], p.forward, reverse=False)
    du_behind, backward = _walk_backward(dy, u, kept.b_and_c[1], kept.dt[1], p.backward, reverse=True)
    dprojected = torch.cat([du + du_behind, dgate], dim=-1)
    dstream, dnorm_weight = add_norm_backward(dprojected @ p.in_proj, grad_stream, kept.stream, p.norm_weight, eps)
    din_proj, dout_proj = _of_weight(dprojected, kept.normed), _of_weight(grad, kept.walked * opened)
    return dstream, BlockParameters(dnorm_weight, din_proj, dout_proj, forward, backward)


def _walk(u: Tensor, side: DirectionParameters, reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Convolve, project to Δ, B and C, and scan; also return B and C, and what Δ is projected from."""
    rank, states = side.dt_proj.shape[1], side.A.shape[1]
    u = causal_conv(u, side.conv_weight, side.conv_bias, True, reverse)
    dt, B, C = torch.split(functional.linear(u, side.x_proj), [rank, states, states], dim=-1)
    delta = functional.linear(dt, side.dt_proj)
    operands = ScanOperands(u, delta, side.A, B, C, side.skip, delta_bias=side.delta_bias)
    y = selective_scan(operands, True, reverse)
    b_and_c = functional.pad(torch.stack([B, C], dim=-2), (0, max(ROOM - states, 0)))
    return y, b_and_c.to(torch.promote_types(u.dtype, torch.float32)), dt


def _walk_backward(
    dy: Tensor, u: Tensor, b_and_c: Tensor, dt: Tensor, side: DirectionParameters, *, reverse: bool
) -> tuple[Tensor, DirectionParameters]:
    """Return the gradients of what was convolved and of one direction's parameters."""
    conv, bias = side.conv_weight, side.conv_bias
    B, C = b_and_c[..., : side.A.shape[1]].to(u.dtype).unbind(-2)
    v, delta = causal_conv(u, conv, bias, True, reverse), functional.linear(dt, side.dt_proj)
    operands = ScanOperands(v, delta, side.A, B, C, side.skip, delta_bias=side.delta_bias)
    dv, ddelta, dA, dB, dC, dskip, _, ddelta_bias = selective_scan_backward(dy, operands, True, reverse)
    dmixed = torch.cat([ddelta @ side.dt_proj, dB, dC], dim=-1)
    du, dconv, dbias = causal_conv_backward(dv + dmixed @ side.x_proj, u, conv, bias, True, reverse)
    dx_proj, ddt_proj = _of_weight(dmixed, v), _of_weight(ddelta, dt)
    return du, DirectionParameters(dconv, dbias, dA, dskip, ddelta_bias, dx_proj, ddt_proj)


def _of_weight(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient ``(o, i)`` of a weight that maps ``x (b, l, i)`` to what has the gradient ``grad (b, l, o)``."""
    return grad.flatten(0, 1).mT @ x.flatten(0, 1)
