"""A Mamba block in one call each way, for training in float32 on a processor.

What leaves the caches costs more than arithmetic: of the seven tensors as wide as the inner width that the single
operations keep for their gradients, two and a half are kept here, and the rest is computed once more on the way back.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rmeeto.ops.bidirectional import Walk, bidirectional_scan
from rmeeto.ops.block import BlockParameters, DirectionParameters
from rmeeto.ops.conv import causal_conv
from rmeeto.ops.impl import cpp
from rmeeto.ops.norm import add_norm


def trainable_block(
    x: Tensor, residual: Tensor | None, parameters: BlockParameters, *, eps: float, scale: float
) -> tuple[Tensor, Tensor]:
    """Compute what `rmeeto.ops.block.PackedBlock` computes, with gradients of everything, and gradients of those.

    Nothing is checked: `rmeeto.ops.block.unsupported_reason` has been asked.

    Args:
        x: (b, l, d) float32, what the block before gave.
        residual: (b, l, d) float32, the stream, or None before the first block.
        parameters: float32 and contiguous, on a processor.
        eps: added to the mean square of the norm.
        scale: of what both directions give together.

    Returns:
        What the block gives and the residual stream that it saw, both (b, l, d).

    Raises:
        MemoryError: there is none left for the kernels' own room.
    """
    flat = (*parameters[:3], *parameters.forward, *parameters.backward)
    return _TrainableBlock.apply(x, residual, eps, scale, *flat)  # type: ignore[no-any-return]


def _parted(flat: Sequence[Tensor]) -> BlockParameters:
    (norm_weight, in_proj, out_proj), sides, width = flat[:3], flat[3:], len(DirectionParameters._fields)
    forward, backward = DirectionParameters(*sides[:width]), DirectionParameters(*sides[width:])
    return BlockParameters(norm_weight, in_proj, out_proj, forward, backward)


class _TrainableBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, eps: float, scale: float, *flat: Tensor
    ) -> tuple[Tensor, Tensor]:
        parameters = _parted(flat)
        (batch, length, _), (inner, rank) = x.shape, parameters.forward.dt_proj.shape
        x, residual = x.contiguous(), None if residual is None else residual.contiguous()
        out, stream, normed = (torch.empty_like(x) for _ in range(3))
        projected, walked = x.new_empty((batch, length, 2 * inner)), x.new_empty((batch, length, inner))
        b_and_c, dt = x.new_empty((2, batch, length, 2 * cpp.MAX_STATES)), x.new_empty((2, batch, length, rank))
        u = x.new_empty((2, batch, length, inner))
        tokens = cpp.BlockTokens(
            *(batch, length, cpp.STORAGE[x.dtype], x.data_ptr(), None if residual is None else residual.data_ptr()),
            *(y.data_ptr() for y in (stream, out, b_and_c, dt)),
            *(batch, *(y.data_ptr() for y in (normed, projected, u, walked))),
        )
        _run("block_forward", parameters.structure(x.dtype, eps, scale), tokens)
        ctx.save_for_backward(stream, b_and_c, dt, normed, projected, walked, *flat)
        ctx.numbers = (eps, scale)
        return out, stream

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_stream: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # read once: hooks may compute or fetch them on access
        if torch.is_grad_enabled():  # gradients of these gradients are wanted, which kernels do not have
            through_the_block, *gradients = _gradients_by_parts(grad, saved[0], saved[6:], *ctx.numbers)
            dstream = through_the_block + grad_stream
        else:
            dstream, *gradients = _gradients(grad, grad_stream, saved, *ctx.numbers)
        found = (dstream, dstream, None, None, *gradients)
        return tuple(gradient if needed else None for gradient, needed in zip(found, ctx.needs_input_grad, strict=True))


def _gradients(
    grad: Tensor, grad_stream: Tensor, saved: Sequence[Tensor], eps: float, scale: float
) -> tuple[Tensor, ...]:
    """Those of the stream and of all parameters, in one call."""
    saved, grad, grad_stream = [x.contiguous() for x in saved], grad.contiguous(), grad_stream.contiguous()
    kept, flat = saved[:6], saved[6:]
    dstream, gradients = torch.empty_like(grad), [torch.empty_like(parameter) for parameter in flat]
    of_parameters = _parted(gradients)
    tokens = cpp.BlockGradients(
        *grad.shape[:2],
        *(y.data_ptr() for y in (*kept, grad, grad_stream, dstream)),
        *(y.data_ptr() for y in gradients[:3]),
        (cpp.BlockDirection * 2)(of_parameters.forward.structure(), of_parameters.backward.structure()),
    )
    _run("block_backward", _parted(flat).structure(grad.dtype, eps, scale), tokens)
    return dstream, *gradients


def _gradients_by_parts(
    grad: Tensor, stream: Tensor, flat: Sequence[Tensor], eps: float, scale: float
) -> tuple[Tensor, ...]:
    """Those of the stream, but for what reaches it from behind, and of all parameters: they can be differentiated."""

    def block(stream: Tensor, *flat: Tensor) -> Tensor:
        return _by_parts(stream, _parted(flat), eps, scale)

    return torch.func.vjp(block, stream, *flat)[1](grad)  # type: ignore[no-any-return]


def _by_parts(stream: Tensor, parameters: BlockParameters, eps: float, scale: float) -> Tensor:
    """What the block gives, operation by operation."""
    normed, _ = add_norm(stream, None, parameters.norm_weight, eps=eps)
    u, gate = F.linear(normed, parameters.in_proj).chunk(2, dim=-1)
    walks = []
    for side, reverse in ((parameters.forward, False), (parameters.backward, True)):
        walked = causal_conv(u, side.conv_weight, side.conv_bias, reverse=reverse)
        rank, states = side.dt_proj.shape[1], side.A.shape[1]
        dt, B, C = torch.split(F.linear(walked, side.x_proj), [rank, states, states], dim=-1)
        walks.append(Walk(walked, F.linear(dt, side.dt_proj), side.A, B, C, side.skip, side.delta_bias))
    return F.linear(bidirectional_scan(walks[0], walks[1], gate), parameters.out_proj) * scale


def _run(name: str, weights: ctypes.Structure, tokens: ctypes.Structure) -> None:
    function = getattr(cpp.library(), f"rmeeto_{name}")
    if not function(ctypes.byref(weights), ctypes.byref(tokens), torch.get_num_threads()):
        raise MemoryError(f"{name}: no memory left for the kernel's own room")
