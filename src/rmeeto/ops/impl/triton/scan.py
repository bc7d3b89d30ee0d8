"""The selective scan: one program walks one image's tokens in order for a block of channels.

Their states never leave the registers, B and C of a token are read once per program, and softplus, bias, skip and
gate happen on the way. Per token and channel, in bfloat16, it moves 8 bytes (u, delta, gate, out) and takes 16
exponentials. An H200 (4.3 TB/s; 132 multiprocessors of 16 exponentials per clock) could move 540 of these per
nanosecond but exponentiate only about 230: the exponentials, and the instructions around them, are the wall; memory
is not.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rmeeto.ops.impl.triton.launch import FUSED, on_device_of, readable, strides
from rmeeto.ops.impl.triton.step_size import LOG2_E, step_size
from rmeeto.ops.impl.triton.tile import FORWARD_TILES, Tile, tile_for
from rmeeto.ops.impl.triton.walk import block_of_channels, load, token_at
from rmeeto.ops.operands import ScanOperands


def selective_scan(operands: ScanOperands, delta_softplus: bool, reverse: bool, tile: Tile | None = None) -> Tensor:
    """Return the output (b, l, e) of `rmeeto.ops.selective_scan`; ``tile`` overrides the rule, for measurements."""
    out = operands.u.new_empty(operands.u.shape)
    _launch(operands, None, out, delta_softplus, reverse, tile)
    return out


def bidirectional_scan(forward: ScanOperands, backward: ScanOperands, tile: Tile | None = None) -> Tensor:
    """Return the output of `rmeeto.ops.bidirectional_scan`: the second walk adds to the first one's and opens the gate.

    What the first one leaves is float32, and neither gated nor added by a launch of its own.
    """
    u = forward.u
    ahead, out = u.new_empty(u.shape, dtype=torch.float32), u.new_empty(u.shape)
    _launch(forward._replace(gate=None), None, ahead, True, False, tile)
    _launch(backward, ahead, out, True, True, tile)
    return out


def _launch(
    operands: ScanOperands, before: Tensor | None, out: Tensor, softplus: bool, reverse: bool, tile: Tile | None
) -> None:
    """One walk. before: contiguous, added before the gate. out: contiguous."""
    if not out.numel():
        return
    u, delta, A, B, C, skip, gate, bias = readable(*operands)
    batch, length, width = u.shape
    A = A.contiguous()
    tile = tile or tile_for(FORWARD_TILES, u)
    with on_device_of(u):
        # fmt: off
        _scan_forward[(batch * triton.cdiv(width, tile.channels),)](
            u, delta, A, B, C, skip, gate, bias, before, out,
            length, width, *strides(u, delta, B, C, gate),
            SOFTPLUS=softplus, REVERSE=reverse, STATES=A.shape[1],
            ROWS=tile.rows, LANES=tile.lanes, num_warps=tile.warps, enable_fp_fusion=FUSED,
        )
        # fmt: on


# fmt: off
@triton.jit(do_not_specialize=["length"])
def _scan_forward(
    u_ptr, delta_ptr, A_ptr, B_ptr, C_ptr, skip_ptr, gate_ptr, bias_ptr, before_ptr, out_ptr,
    length, width,
    u_batch, u_token, delta_batch, delta_token, B_batch, B_token, C_batch, C_token, gate_batch, gate_token,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, STATES: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr,
):
    # fmt: on
    image, _, channel, exists = block_of_channels(width, ROWS, LANES)
    state = tl.arange(0, STATES)
    u_ptr += image * u_batch
    delta_ptr += image * delta_batch
    B_ptr += image * B_batch
    C_ptr += image * C_batch
    out_ptr += image * length * width
    rate = load(A_ptr + channel[:, None, :] * STATES + state[None, :, None], exists[:, None, :])
    rate *= LOG2_E  # exp(d * A) is then a bare exp2
    bias = None
    if bias_ptr is not None:
        bias = load(bias_ptr + channel, exists)
    if skip_ptr is not None:
        skip = load(skip_ptr + channel, exists)
    if gate_ptr is not None:
        gate_ptr += image * gate_batch
    if before_ptr is not None:
        before_ptr += image * length * width

    # A token's operands are asked for one token ahead, so that they arrive while this one is computed.
    token = token_at(tl.full((), 0, tl.int32), length, REVERSE)
    u_next = tl.load(u_ptr + token * u_token + channel, mask=exists, other=0.0)
    delta_next = tl.load(delta_ptr + token * delta_token + channel, mask=exists, other=0.0)
    B_next = tl.load(B_ptr + token * B_token + state)
    C_next = tl.load(C_ptr + token * C_token + state)
    if gate_ptr is not None:
        gate_next = tl.load(gate_ptr + token * gate_token + channel, mask=exists, other=0.0)
    if before_ptr is not None:
        before_next = tl.load(before_ptr + token * width + channel, mask=exists, other=0.0)

    h = tl.zeros((ROWS, STATES, LANES), tl.float32)
    for position in range(length):
        here = token
        u = u_next.to(tl.float32)
        d = step_size(delta_next, bias, SOFTPLUS)
        B = B_next.to(tl.float32)
        C = C_next.to(tl.float32)
        if gate_ptr is not None:
            gate = gate_next.to(tl.float32)
        if before_ptr is not None:
            before = before_next.to(tl.float32)

        token = token_at(tl.minimum(position + 1, length - 1), length, REVERSE)
        u_next = tl.load(u_ptr + token * u_token + channel, mask=exists, other=0.0)
        delta_next = tl.load(delta_ptr + token * delta_token + channel, mask=exists, other=0.0)
        B_next = tl.load(B_ptr + token * B_token + state)
        C_next = tl.load(C_ptr + token * C_token + state)
        if gate_ptr is not None:
            gate_next = tl.load(gate_ptr + token * gate_token + channel, mask=exists, other=0.0)
        if before_ptr is not None:
            before_next = tl.load(before_ptr + token * width + channel, mask=exists, other=0.0)

        h = tl.exp2(rate * d[:, None, :]) * h + B[None, :, None] * (d * u)[:, None, :]
        y = tl.sum(h * C[None, :, None], axis=1)
        if skip_ptr is not None:
            y += skip * u
        if before_ptr is not None:
            y += before
        if gate_ptr is not None:
            y *= gate * tl.sigmoid(gate)
        tl.store(out_ptr + here * width + channel, y, mask=exists)
