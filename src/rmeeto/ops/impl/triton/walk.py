"""What the kernels that walk tokens share: positions, masks and loads.

A walk visits positions 0, 1, …; the token at a position is counted from the end when REVERSE. Absent operands arrive
as None and their code is not compiled. Token counts change from block to block as tokens merge, so kernels are not
specialised on them.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def token_at(position, length, REVERSE: tl.constexpr):
    """Return the token at a position of the walk, wide enough to be multiplied with any stride."""
    token = length - 1 - position if REVERSE else position
    return token.to(tl.int64)


@triton.jit
def only_if(condition, index, size):
    """Return which indices are below ``size``, or none; a scalar mask that the interpreter understands too."""
    return index < tl.where(condition, size, 0)


@triton.jit
def block_of_channels(width, ROWS: tl.constexpr, LANES: tl.constexpr):
    """Return this program's image, block, channels (ROWS, LANES), and which of these exist."""
    blocks = tl.cdiv(width, ROWS * LANES)
    block = tl.program_id(0) % blocks
    channel = block * (ROWS * LANES) + tl.arange(0, ROWS)[:, None] * LANES + tl.arange(0, LANES)[None, :]
    return (tl.program_id(0) // blocks).to(tl.int64), block, channel, channel < width


@triton.jit
def load(ptr, mask):
    """Return what the pointers hold as float32, zero where masked out."""
    return tl.load(ptr, mask=mask, other=0.0).to(tl.float32)
