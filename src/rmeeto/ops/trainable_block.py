"""A Mamba block in one call each way, for training in float32 on a processor.

What leaves the caches costs more than arithmetic: of the seven tensors as wide as the inner width that the single
operations keep for their gradients, two and a half are kept here, and the rest is computed once more on the way back.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmeeto.ops.block import BlockParameters, DirectionParameters
from rmeeto.ops.impl import cpp


def trainable_block(
    x: Tensor, residual: Tensor | None, parameters: BlockParameters, *, eps: float, scale: float
) -> tuple[Tensor, Tensor]:
    """Compute what `rmeeto.ops.block.PackedBlock` computes, with gradients of everything.

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
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_stream: Tensor) -> tuple[Tensor | None, ...]:
        saved = [x.contiguous() for x in ctx.saved_tensors]  # read once: hooks may compute or fetch them on access
        kept, flat = saved[:6], saved[6:]
        grad, grad_stream = grad.contiguous(), grad_stream.contiguous()
        dstream, gradients = torch.empty_like(grad), [torch.empty_like(parameter) for parameter in flat]
        of_parameters = _parted(gradients)
        tokens = cpp.BlockGradients(
            *grad.shape[:2],
            *(y.data_ptr() for y in (*kept, grad, grad_stream, dstream)),
            *(y.data_ptr() for y in gradients[:3]),
            (cpp.BlockDirection * 2)(of_parameters.forward.structure(), of_parameters.backward.structure()),
        )
        _run("block_backward", _parted(flat).structure(grad.dtype, *ctx.numbers), tokens)
        wanted = ctx.needs_input_grad
        found = (dstream, dstream, None, None, *gradients)
        return tuple(gradient if needed else None for gradient, needed in zip(found, wanted, strict=True))


def _run(name: str, weights: ctypes.Structure, tokens: ctypes.Structure) -> None:
    function = getattr(cpp.library(), f"rmeeto_{name}")
    if not function(ctypes.byref(weights), ctypes.byref(tokens), torch.get_num_threads()):
        raise MemoryError(f"{name}: no memory left for the kernel's own room")
