"""Gather the rows that stay and pull each towards those that end in it; and the same backward.

One program writes a few whole rows. It looks for its rows among the targets itself, so that they need not be sorted or
counted first, and adds the sources in their order: two runs give the same bits. A row that nothing ends in is
copied as it is. Positions are read on the device only: one that lies outside trips a device assertion, as in PyTorch's
own kernels, and the error comes with the next synchronisation.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from rmeeto.ops.impl.triton.launch import ASSERTING, FUSED, on_device_of, readable, strides
from rmeeto.ops.impl.triton.walk import load

ELEMENTS = 2048  # of a program's rows, over 4 warps: 16 per thread, two vector loads of half precision
MOST_ROWS, MOST_CHANNELS = 64, 1024
SOURCES = 64  # that a program looks through at a time


def merge_rows(values: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Return the rows that stay (b, m, c) of `rmeeto.ops.merge_rows`."""
    out = values.new_empty((*kept.shape, values.shape[2]))
    _launch(_merge, values, (kept, source, target, share), out, rows=kept.shape[1])
    return out


def merge_rows_backward(grad: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Return the gradient of the values (b, l, c): each row of it is written once."""
    tokens = kept.shape[1] + source.shape[1]
    values = grad.new_empty((grad.shape[0], tokens, grad.shape[2]))
    _launch(_merge_backward, grad, (kept, source, target, share), values, rows=tokens)
    return values


def _launch(kernel: Any, values: Tensor, plan: tuple[Tensor, ...], out: Tensor, rows: int) -> None:
    """Let programs write all ``rows`` of every image of ``out``."""
    if not out.numel():
        return
    (values,), (kept, source, target, share) = readable(values), (x.contiguous() for x in plan)
    width = values.shape[2]
    channels = min(triton.next_power_of_2(width), MOST_CHANNELS)
    block = min(ELEMENTS // channels, MOST_ROWS)
    programs = out.shape[0] * triton.cdiv(rows, block) * triton.cdiv(width, channels)
    with on_device_of(values):
        # fmt: off
        kernel[(programs,)](
            values, kept, source, target, share, out,
            kept.shape[1], source.shape[1], width, *strides(values),
            ROWS=block, CHANNELS=channels, SOURCES=SOURCES,
            num_warps=4, enable_fp_fusion=FUSED, **ASSERTING,
        )
        # fmt: on


# Prediction: rows in, rows out: at (128, 197, 384), r = 11 in bfloat16 38 MB, 9 µs. Looking for targets: 8 r bytes per
# program, from cache, a hundredth of that at r = 11 and as much again where every second row leaves.
# fmt: off
@triton.jit(do_not_specialize=["left", "removed"])
def _merge(
    values_ptr, kept_ptr, source_ptr, target_ptr, share_ptr, out_ptr,
    left, removed, width, values_batch, values_token,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr, SOURCES: tl.constexpr,
):
    # fmt: on
    image, first, channel = _place_of_program(left, width, ROWS, CHANNELS)
    row = first + tl.arange(0, ROWS)
    tokens = left + removed
    values_ptr += image * values_batch + channel
    source_ptr += image * removed
    target_ptr += image * removed
    share_ptr += image * removed
    inside = (row < left)[:, None] & (channel < width)[None, :]

    kept = tl.load(kept_ptr + image * left + row, mask=row < left, other=0)
    tl.device_assert((kept >= 0) & (kept < tokens), "a kept position lies outside of the sequence")
    own = load(values_ptr[None, :] + kept[:, None] * values_token, inside)
    merged = own
    for start in range(0, removed, SOURCES):
        number = start + tl.arange(0, SOURCES)
        targets = tl.load(target_ptr + number, mask=number < removed, other=0)
        tl.device_assert((targets >= 0) & (targets < left), "a target lies outside of the rows that stay")
        ends_here = (targets >= first) & (targets < first + ROWS) & (number < removed)
        next_one = tl.min(tl.where(ends_here, number, removed), axis=0)
        while next_one < removed:
            source = tl.load(source_ptr + next_one)
            tl.device_assert((source >= 0) & (source < tokens), "a source lies outside of the sequence")
            target = tl.load(target_ptr + next_one)
            share = tl.load(share_ptr + next_one).to(tl.float32)
            leaving = load(values_ptr + source * values_token, channel < width)
            # A choice, not a product with zero, which would lose a zero's sign and spread infinities.
            merged = tl.where((row == target)[:, None], merged + share * (leaving[None, :] - own), merged)
            next_one = tl.min(tl.where(ends_here & (number > next_one), number, removed), axis=0)
    tl.store(out_ptr + (image * left + row[:, None]) * width + channel[None, :], merged, mask=inside)


# Prediction: rows in, rows out, as forward.
# fmt: off
@triton.jit(do_not_specialize=["left", "removed"])
def _merge_backward(
    grad_ptr, kept_ptr, source_ptr, target_ptr, share_ptr, out_ptr,
    left, removed, width, grad_batch, grad_token,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr, SOURCES: tl.constexpr,
):
    # fmt: on
    # Rows are numbered as the plan has them: those that stay, then those that leave.
    tokens = left + removed
    image, first, channel = _place_of_program(tokens, width, ROWS, CHANNELS)
    row = first + tl.arange(0, ROWS)
    stays, leaves = row < left, (row >= left) & (row < tokens)
    target_ptr += image * removed
    share_ptr += image * removed

    kept = tl.load(kept_ptr + image * left + row, mask=stays, other=0)
    source = tl.load(source_ptr + image * removed + row - left, mask=leaves, other=0)
    target = tl.load(target_ptr + row - left, mask=leaves, other=0)
    place = tl.where(stays, kept, source)
    tl.device_assert((place >= 0) & (place < tokens), "a position lies outside of the sequence")
    tl.device_assert((target >= 0) & (target < left), "a target lies outside of the rows that stay")
    factor = tl.where(stays, 1.0, tl.load(share_ptr + row - left, mask=leaves, other=0.0).to(tl.float32))
    for start in range(0, removed, SOURCES):
        number = start + tl.arange(0, SOURCES)
        targets = tl.load(target_ptr + number, mask=number < removed, other=-1)
        shares = load(share_ptr + number, number < removed)
        factor -= tl.sum(tl.where(targets[None, :] == row[:, None], shares[None, :], 0.0), axis=1)

    inside = (row < tokens)[:, None] & (channel < width)[None, :]
    origin = tl.where(stays, row.to(tl.int64), target)
    grad = load(grad_ptr + image * grad_batch + origin[:, None] * grad_token + channel[None, :], inside)
    out = (image * tokens + place[:, None]) * width + channel[None, :]
    tl.store(out_ptr + out, grad * factor[:, None], mask=inside)


@triton.jit
def _place_of_program(rows, width, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Return this program's image, first row and channels."""
    across, along = tl.cdiv(width, CHANNELS), tl.cdiv(rows, ROWS)
    program = tl.program_id(0)
    channel = program % across * CHANNELS + tl.arange(0, CHANNELS)
    return (program // (across * along)).to(tl.int64), program // across % along * ROWS, channel
