"""Join the residual stream and normalise, in one pass over the rows; and the same backward.

A program holds whole rows in registers, so that each number is read and written once. The gradient of the weight is a
sum over all rows: every program writes its own partial sums and one reduction adds them up, always in the same order.
"""

# Kernels are written in Triton's language, not in Python: their arguments have no types to annotate.
# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment, misc"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rmeeto.ops.impl.triton.launch import FUSED, on_device_of, readable
from rmeeto.ops.impl.triton.walk import load

ELEMENTS = 2048  # of the rows that a program holds at a time: 16 per thread of 4 warps
SEGMENT = 16  # rows that a program of the backward walks: its partial sums are a sixteenth of one tensor


def add_norm(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return ``r / rms(r) · weight`` in x's dtype and r = x + residual in float32, each rounded once.

    x: (…, d). residual: (…, d), or None where the stream begins with x. weight: (d,).
    """
    normed, joined = x.new_empty(x.shape), x.new_empty(x.shape, dtype=torch.float32)
    if not x.numel():
        return normed, joined
    x_rows, residual_rows = _rows(x), None if residual is None else _rows(residual)
    width = triton.next_power_of_2(x.shape[-1])
    block = max(1, ELEMENTS // width)
    with on_device_of(x):
        # fmt: off
        _add_norm[(triton.cdiv(len(x_rows), block),)](
            x_rows, residual_rows, weight.contiguous(), normed, joined,
            *x_rows.shape, eps, _stride(x_rows), _stride(residual_rows),
            ROWS=block, WIDTH=width, num_warps=_warps(width), enable_fp_fusion=FUSED,
        )
        # fmt: on
    return normed, joined


def add_norm_backward(
    grad_normed: Tensor, grad_residual: Tensor | None, new_residual: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of both x and the residual, which are the same number in float32, and of the weight.

    grad_normed, grad_residual: of the two results of `add_norm`, (…, d); the second is None where nothing reads r.
    new_residual: r.
    """
    grad, weight = new_residual.new_empty(new_residual.shape, dtype=torch.float32), weight.contiguous()
    if not grad.numel():
        return grad, torch.zeros_like(weight)
    normed_rows, rows = _rows(grad_normed), _rows(new_residual)
    residual_rows = None if grad_residual is None else _rows(grad_residual)
    width = triton.next_power_of_2(rows.shape[1])
    segments = triton.cdiv(len(rows), SEGMENT)
    sums = grad.new_empty((segments, rows.shape[1]))
    with on_device_of(grad):
        # fmt: off
        _add_norm_backward[(segments,)](
            normed_rows, residual_rows, rows, weight, grad, sums,
            *rows.shape, eps, _stride(normed_rows), _stride(residual_rows), _stride(rows),
            ROWS=min(SEGMENT, max(1, ELEMENTS // width)), WIDTH=width, SEGMENT=SEGMENT,
            num_warps=_warps(width), enable_fp_fusion=FUSED,
        )
        # fmt: on
    return grad, sums.sum(0).to(weight.dtype)


def _rows(x: Tensor) -> Tensor:
    """Return x as (rows, d) with the channels side by side; copied only where no strides say that."""
    rows: Tensor = readable(x.reshape(-1, x.shape[-1]))[0]
    return rows


def _warps(width: int) -> int:
    """Return 4, or more where a row alone is too much for 4."""
    return max(4, width // 512)


def _stride(x: Tensor | None) -> int:
    return 0 if x is None else x.stride(0)


# Prediction: 12 bytes per number in bfloat16 (x and normed 2, residual in and out 4): (128, 197, 384) 116 MB, 27 µs.
# fmt: off
@triton.jit(do_not_specialize=["rows"])
def _add_norm(
    x_ptr, residual_ptr, weight_ptr, normed_ptr, joined_ptr, rows, width, eps, x_row, residual_row,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):
    # fmt: on
    row, channel, inside = _whole_rows(tl.program_id(0).to(tl.int64) * ROWS, rows, width, ROWS, WIDTH)
    weight = load(weight_ptr + channel, channel < width)
    joined = load(x_ptr + row * x_row + channel[None, :], inside)
    if residual_ptr is not None:
        joined += load(residual_ptr + row * residual_row + channel[None, :], inside)
    tl.store(joined_ptr + row * width + channel[None, :], joined, mask=inside)
    inverse = tl.rsqrt(tl.sum(joined * joined, axis=1) / width + eps)
    tl.store(normed_ptr + row * width + channel[None, :], joined * inverse[:, None] * weight[None, :], mask=inside)


# Prediction: 14 bytes per number in bfloat16 (gradients 2, 4 and 4, r 4), partial sums half a byte: 140 MB, 33 µs.
# fmt: off
@triton.jit(do_not_specialize=["rows"])
def _add_norm_backward(
    normed_ptr, residual_ptr, joined_ptr, weight_ptr, out_ptr, sums_ptr,
    rows, width, eps, normed_row, residual_row, joined_row,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, SEGMENT: tl.constexpr,
):
    # fmt: on
    segment = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, WIDTH)
    weight = load(weight_ptr + channel, channel < width)
    dweight = tl.zeros((WIDTH,), tl.float32)
    for start in range(0, SEGMENT, ROWS):
        row, _, inside = _whole_rows(segment * SEGMENT + start, rows, width, ROWS, WIDTH)
        joined = load(joined_ptr + row * joined_row + channel[None, :], inside)
        grad = load(normed_ptr + row * normed_row + channel[None, :], inside)
        inverse = tl.rsqrt(tl.sum(joined * joined, axis=1) / width + eps)
        unit = tl.where(inside, joined * inverse[:, None], 0.0)  # beyond the end the length is zero
        dweight += tl.sum(grad * unit, axis=0)
        grad *= weight[None, :]
        along = tl.sum(grad * unit, axis=1) / width
        total = inverse[:, None] * (grad - unit * along[:, None])
        if residual_ptr is not None:
            total += load(residual_ptr + row * residual_row + channel[None, :], inside)
        tl.store(out_ptr + row * width + channel[None, :], total, mask=inside)
    tl.store(sums_ptr + segment * width + channel, dweight, mask=channel < width)


@triton.jit
def _whole_rows(first, rows, width, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Return rows (ROWS, 1), channels (WIDTH,), and which numbers exist."""
    row = first + tl.arange(0, ROWS)[:, None]
    channel = tl.arange(0, WIDTH)
    return row, channel, (row < rows) & (channel < width)[None, :]
