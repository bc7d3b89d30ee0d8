"""The selective scan, backward: a walk that keeps some states, and a walk back that redoes the others.

The first walk keeps the state before every chunk of a few tokens. The second one goes from the last chunk to the
first, redoes the chunk's states in registers and walks back over them: 3 exponentials per state and 18 bytes per token
and channel, plus 128 / chunk bytes for the kept states. The gradients of B and C are sums over channels: every program
writes its own partial sums and one reduction adds them up, so that two runs give the same bits, which atomic additions
would not.
"""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from rmeeto.ops.impl.triton.launch import FUSED, on_device_of, readable, strides
from rmeeto.ops.impl.triton.step_size import LN_2, LOG2_E, biased, step_size
from rmeeto.ops.impl.triton.tile import BACKWARD_TILES, Tile, tile_for
from rmeeto.ops.impl.triton.walk import block_of_channels, load, only_if, token_at
from rmeeto.ops.operands import ScanOperands


def selective_scan_backward(
    grad: Tensor, operands: ScanOperands, delta_softplus: bool, reverse: bool, tile: Tile | None = None
) -> tuple[Tensor, ...]:
    """Return the gradients of all operands, of shape (0,) for absent ones."""
    u, A = operands.u, operands.A
    if not u.numel():
        return tuple(u.new_empty(0) if x is None else torch.zeros_like(x).contiguous() for x in operands)
    (batch, length, width), states = u.shape, A.shape[1]
    grad, u, delta, A, B, C, skip, gate, delta_bias = readable(grad, *operands)
    A = A.contiguous()
    tile = tile or tile_for(BACKWARD_TILES, u)
    blocks, chunks = triton.cdiv(width, tile.channels), triton.cdiv(length, tile.chunk)

    du, ddelta = u.new_empty(u.shape), delta.new_empty(delta.shape)
    dgate = None if gate is None else gate.new_empty(gate.shape)
    floats = partial(torch.empty, dtype=torch.float32, device=u.device)
    kept = floats(batch * blocks, chunks - 1, tile.channels * states)
    dB, dC = floats(2, blocks, batch, length, states).unbind()  # partial sums over channels
    dA = floats(batch, width, states)
    dskip = None if skip is None else floats(batch, width)
    dbias = None if delta_bias is None else floats(batch, width)
    with on_device_of(u):
        # fmt: off
        _scan_backward[(batch * blocks,)](
            grad, u, delta, A, B, C, skip, gate, delta_bias, kept,
            du, ddelta, dA, dB, dC, dskip, dgate, dbias,
            batch, length, width, *strides(grad, u, delta, B, C, gate),
            SOFTPLUS=delta_softplus, REVERSE=reverse, STATES=states,
            ROWS=tile.rows, LANES=tile.lanes, CHUNK=tile.chunk, num_warps=tile.warps, enable_fp_fusion=FUSED,
        )
        # fmt: on
    totals = (du, ddelta, dA.sum(0), dB.sum(0), dC.sum(0), _total(dskip), dgate, _total(dbias))
    return tuple(
        u.new_empty(0) if x is None or total is None else total.to(x.dtype).contiguous()
        for x, total in zip(operands, totals, strict=True)
    )


def _total(partial: Tensor | None) -> Tensor | None:
    return None if partial is None else partial.sum(0)


# fmt: off
@triton.jit(do_not_specialize=["batch", "length"])
def _scan_backward(
    grad_ptr, u_ptr, delta_ptr, A_ptr, B_ptr, C_ptr, skip_ptr, gate_ptr, bias_ptr, kept_ptr,
    du_ptr, ddelta_ptr, dA_ptr, dB_ptr, dC_ptr, dskip_ptr, dgate_ptr, dbias_ptr,
    batch, length, width,
    grad_batch, grad_token, u_batch, u_token, delta_batch, delta_token,
    B_batch, B_token, C_batch, C_token, gate_batch, gate_token,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, STATES: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr, CHUNK: tl.constexpr,
):
    # fmt: on
    image, block, channel, exists = block_of_channels(width, ROWS, LANES)
    state = tl.arange(0, STATES)
    chunks = tl.cdiv(length, CHUNK)
    grad_ptr += image * grad_batch
    u_ptr += image * u_batch
    delta_ptr += image * delta_batch
    B_ptr += image * B_batch
    C_ptr += image * C_batch
    if gate_ptr is not None:
        gate_ptr += image * gate_batch
        dgate_ptr += image * length * width
    du_ptr += image * length * width
    ddelta_ptr += image * length * width
    dB_ptr += (block * batch + image) * length * STATES
    dC_ptr += (block * batch + image) * length * STATES

    rate = load(A_ptr + channel[:, None, :] * STATES + state[None, :, None], exists[:, None, :])
    rate *= LOG2_E
    bias = None
    if bias_ptr is not None:
        bias = load(bias_ptr + channel, exists)
        dbias = tl.zeros((ROWS, LANES), tl.float32)
    if skip_ptr is not None:
        skip = load(skip_ptr + channel, exists)
        dskip = tl.zeros((ROWS, LANES), tl.float32)

    # The state before each chunk but the first, in the order of A: see `Tile` for why.
    in_tile = (channel[:, None, :] - block * (ROWS * LANES)) * STATES + state[None, :, None]
    kept_ptr += tl.program_id(0).to(tl.int64) * (chunks - 1) * (ROWS * STATES * LANES)
    h = tl.zeros((ROWS, STATES, LANES), tl.float32)
    for chunk in range(chunks - 1):
        for k in tl.static_range(CHUNK):
            token = token_at(chunk * CHUNK + k, length, REVERSE)
            u = load(u_ptr + token * u_token + channel, exists)
            delta = tl.load(delta_ptr + token * delta_token + channel, mask=exists, other=0.0)
            d = step_size(delta, bias, SOFTPLUS)
            B = tl.load(B_ptr + token * B_token + state).to(tl.float32)
            h = tl.exp2(rate * d[:, None, :]) * h + B[None, :, None] * (d * u)[:, None, :]
        tl.store(kept_ptr + in_tile, h)
        kept_ptr += ROWS * STATES * LANES

    dh = tl.zeros((ROWS, STATES, LANES), tl.float32)
    drate = tl.zeros((ROWS, STATES, LANES), tl.float32)
    for chunk_from_end in range(chunks):
        chunk = chunks - 1 - chunk_from_end
        h = tl.zeros((ROWS, STATES, LANES), tl.float32)
        if chunk > 0:
            kept_ptr -= ROWS * STATES * LANES
            h = tl.load(kept_ptr + in_tile)
        befores = ()
        for k in tl.static_range(CHUNK):
            befores = befores + (h,)
            if k < CHUNK - 1:
                # The last chunk may reach past the end: its surplus states, of the last token over and over, are
                # never used, as no gradient comes from there.
                token = token_at(tl.minimum(chunk * CHUNK + k, length - 1), length, REVERSE)
                u = load(u_ptr + token * u_token + channel, exists)
                delta = tl.load(delta_ptr + token * delta_token + channel, mask=exists, other=0.0)
                d = step_size(delta, bias, SOFTPLUS)
                B = tl.load(B_ptr + token * B_token + state).to(tl.float32)
                h = tl.exp2(rate * d[:, None, :]) * h + B[None, :, None] * (d * u)[:, None, :]

        for k in tl.static_range(CHUNK - 1, -1, -1):
            position = chunk * CHUNK + k
            inside = position < length
            token = token_at(tl.minimum(position, length - 1), length, REVERSE)
            wanted = only_if(inside, channel, width)
            u = load(u_ptr + token * u_token + channel, exists)
            delta = tl.load(delta_ptr + token * delta_token + channel, mask=exists, other=0.0)
            d = step_size(delta, bias, SOFTPLUS)
            B = tl.load(B_ptr + token * B_token + state).to(tl.float32)
            C = tl.load(C_ptr + token * C_token + state).to(tl.float32)
            dy = load(grad_ptr + token * grad_token + channel, wanted)

            decay = tl.exp2(rate * d[:, None, :])
            left = decay * befores[k]
            h = left + B[None, :, None] * (d * u)[:, None, :]
            if gate_ptr is not None:
                y = tl.sum(h * C[None, :, None], axis=1)
                if skip_ptr is not None:
                    y += skip * u
                gate = load(gate_ptr + token * gate_token + channel, exists)
                sigmoid = tl.sigmoid(gate)
                dgate = dy * y * sigmoid * (1.0 + gate * (1.0 - sigmoid))
                tl.store(dgate_ptr + token * width + channel, dgate, mask=wanted)
                dy *= gate * sigmoid

            # Rows first: they lie in one thread's registers, lanes do not.
            dC = tl.sum(tl.sum(h * dy[:, None, :], axis=0), axis=1)
            tl.store(dC_ptr + token * STATES + state, dC, mask=only_if(inside, state, STATES))
            dh += C[None, :, None] * dy[:, None, :]
            dB = tl.sum(tl.sum(dh * (d * u)[:, None, :], axis=0), axis=1)
            tl.store(dB_ptr + token * STATES + state, dB, mask=only_if(inside, state, STATES))

            by_input = tl.sum(dh * B[None, :, None], axis=1)
            by_decay = dh * left
            dd = by_input * u + tl.sum(by_decay * rate, axis=1) * LN_2
            drate += by_decay * d[:, None, :]
            dh *= decay
            du = by_input * d
            if skip_ptr is not None:
                du += skip * dy
                dskip += dy * u
            if SOFTPLUS:
                dd *= tl.sigmoid(biased(delta, bias))
            if bias_ptr is not None:
                dbias += dd
            tl.store(du_ptr + token * width + channel, du, mask=wanted)
            tl.store(ddelta_ptr + token * width + channel, dd, mask=wanted)

    dA_ptr += image * width * STATES
    tl.store(dA_ptr + channel[:, None, :] * STATES + state[None, :, None], drate, mask=exists[:, None, :])
    if skip_ptr is not None:
        tl.store(dskip_ptr + image * width + channel, dskip, mask=exists)
    if bias_ptr is not None:
        tl.store(dbias_ptr + image * width + channel, dbias, mask=exists)
