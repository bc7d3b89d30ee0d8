"""Join the residual stream and normalise, in one pass over the rows; and the same backward.

A program holds whole rows in registers, so that each number is read and written once. The gradient of the weight is a
sum over all rows: every program writes its own partial sums and one reduction adds them up, always in the same order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rmeeto.ops.impl.triton.launch import FUSED, on_device_of, readable
from rmeeto.ops.impl.triton.walk import load

ELEMENTS = 2048  # of the rows that a program holds at a time: 16 per thread of 4 warps
SEGMENT = 16  # rows that a program of the backward walks: its partial sums are a sixteenth of one tensor


def add_norm(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return normed, in ``dtype``, and the new stream of `rmeeto.ops.add_norm`; each is rounded once."""
    normed, stream = x.new_empty(x.shape, dtype=dtype), x.new_empty(x.shape, dtype=torch.float32)
    if not x.numel():
        return normed, stream
    x, residual = _rows(x), None if residual is None else _rows(residual)
    width = triton.next_power_of_2(x.shape[1])
    block = max(1, ELEMENTS // width)
    with on_device_of(x):
        # fmt: off
        _add_norm[(triton.cdiv(len(x), block),)](
            x, residual, weight.contiguous(), normed, stream,
            *x.shape, eps, x.stride(0), 0 if residual is None else residual.stride(0),
            ROWS=block, WIDTH=width, num_warps=_warps(width), enable_fp_fusion=FUSED,
        )
        # fmt: on
    return normed, stream


def add_norm_backward(
    grad: Tensor, grad_stream: Tensor, stream: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the stream, which is that of both addends, and of the weight."""
    dstream, weight = stream.new_empty(stream.shape), weight.contiguous()
    if not stream.numel():
        return dstream, torch.zeros_like(weight)
    grad, grad_stream, stream = _rows(grad), _rows(grad_stream), _rows(stream)
    width = triton.next_power_of_2(stream.shape[1])
    segments = triton.cdiv(len(stream), SEGMENT)
    sums = stream.new_empty((segments, stream.shape[1]))
    with on_device_of(stream):
        # fmt: off
        _add_norm_backward[(segments,)](
            grad, grad_stream, stream, weight, dstream, sums,
            *stream.shape, eps, grad.stride(0), grad_stream.stride(0), stream.stride(0),
            ROWS=min(SEGMENT, max(1, ELEMENTS // width)), WIDTH=width, SEGMENT=SEGMENT,
            num_warps=_warps(width), enable_fp_fusion=FUSED,
        )
        # fmt: on
    return dstream, sums.sum(0).to(weight.dtype)


def _rows(x: Tensor) -> Tensor:
    """Return x as (rows, d) with the channels side by side; copied only where no strides say that."""
    rows: Tensor = readable(x.reshape(-1, x.shape[-1]))[0]
    return rows


def _warps(width: int) -> int:
    """Return 4, or more where a row alone is too much for 4."""
    return max(4, width // 512)


# Prediction: 12 bytes per number in bfloat16 (x and normed 2, stream in and out 4): (128, 197, 384) 116 MB, 27 µs.
# fmt: off
@triton.jit(do_not_specialize=["rows"])
def _add_norm(
    x_ptr, residual_ptr, weight_ptr, normed_ptr, stream_ptr, rows, width, eps, x_row, residual_row,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):
    # fmt: on
    row, channel, inside = _whole_rows(tl.program_id(0).to(tl.int64) * ROWS, rows, width, ROWS, WIDTH)
    weight = load(weight_ptr + channel, channel < width)
    stream = load(x_ptr + row * x_row + channel[None, :], inside)
    if residual_ptr is not None:
        stream += load(residual_ptr + row * residual_row + channel[None, :], inside)
    tl.store(stream_ptr + row * width + channel[None, :], stream, mask=inside)
    inverse = tl.rsqrt(tl.sum(stream * stream, axis=1) / width + eps)
    tl.store(normed_ptr + row * width + channel[None, :], stream * inverse[:, None] * weight[None, :], mask=inside)


# Prediction: 14 bytes per number in bfloat16 (grad 2, stream and its gradients 4), sums half a byte: 140 MB, 33 µs.
# fmt: off
@triton.jit(do_not_specialize=["rows"])
def _add_norm_backward(
    grad_ptr, grad_stream_ptr, stream_ptr, weight_ptr, dstream_ptr, sums_ptr,
    rows, width, eps, grad_row, grad_stream_row, stream_row,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, SEGMENT: tl.constexpr,
):
    # fmt: on
    segment = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, WIDTH)
    weight = load(weight_ptr + channel, channel < width)
    dweight = tl.zeros((WIDTH,), tl.float32)
    for start in range(0, SEGMENT, ROWS):
        row, _, inside = _whole_rows(segment * SEGMENT + start, rows, width, ROWS, WIDTH)
        stream = load(stream_ptr + row * stream_row + channel[None, :], inside)
        grad = load(grad_ptr + row * grad_row + channel[None, :], inside)
        inverse = tl.rsqrt(tl.sum(stream * stream, axis=1) / width + eps)
        unit = tl.where(inside, stream * inverse[:, None], 0.0)  # rows beyond the end have no length
        dweight += tl.sum(grad * unit, axis=0)
        grad *= weight[None, :]
        along = tl.sum(grad * unit, axis=1) / width
        total = load(grad_stream_ptr + row * grad_stream_row + channel[None, :], inside)
        total += inverse[:, None] * (grad - unit * along[:, None])
        tl.store(dstream_ptr + row * width + channel[None, :], total, mask=inside)
    tl.store(sums_ptr + segment * width + channel, dweight, mask=channel < width)


@triton.jit
def _whole_rows(first, rows, width, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Return rows (ROWS, 1), channels (WIDTH,), and which numbers exist."""
    row = first + tl.arange(0, ROWS)[:, None]
    channel = tl.arange(0, WIDTH)
    return row, channel, (row < rows) & (channel < width)[None, :]
