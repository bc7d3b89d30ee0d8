"""The operations as Triton kernels for CUDA devices, in float32 arithmetic whatever the storage.

**Scan.** One program walks one image's tokens in order for a block of channels. Their states never leave the
registers, B and C of a token are read once per program, and softplus, bias, skip and gate happen on the way.
Per token and channel, in bfloat16, the forward moves 8 bytes (u, delta, gate, out) and takes 16 exponentials.
An H200 (4.3 TB/s; 132 multiprocessors of 16 exponentials per clock) could move 540 of these per nanosecond but
exponentiate only about 230: the exponentials, and the instructions around them, are the wall; memory is not.

**Scan, backward.** A first walk keeps the state before every chunk of a few tokens. A second one goes from the
last chunk to the first, redoes the chunk's states in registers and walks back over them: 3 exponentials per
state and 18 bytes per token and channel, plus 128 / chunk bytes for the kept states. The gradients of B and C
are sums over channels: every program writes its own partial sums and one reduction adds them up, so that two
runs give the same bits, which atomic additions would not.

**Convolution.** A few multiplications per element, bound by memory alone.

Nothing is tuned at run time: timing at a first call would break CUDA graph capture and could change the order
of sums between processes. A rule picks the tile (`_tile`); ``benchmarks/gpu_check.py --sweep`` measures others.

With ``TRITON_INTERPRET=1`` set before Triton is imported the kernels run on the processor, for tests.
"""

# Kernels are written in Triton's language, not in Python: their arguments have no types to annotate, and their
# tuples grow by + only. Signatures and launches keep related operands on a line, hence the fmt marks.
# ruff: noqa: ANN001, ANN202, RUF005
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment, misc"

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_STATES = 32
MAX_TAPS = 4


class Tile(NamedTuple):
    """What one program of the scan holds: ``rows`` × ``lanes`` channels; ``chunk`` tokens between kept states.

    A (rows, states, lanes) block is loaded from memory where a channel's states lie side by side (A, the kept
    states, the gradient of A). Triton then gives a thread 4 consecutive states of one lane in every row. With 16
    states and 8 lanes a warp is exactly full, sums over states cost 2 shuffles per row, and the backward's sums
    over channels add the rows before they cost 3 shuffles per state: the cheapest split of 32 channels.
    """

    rows: int = 4
    lanes: int = 8
    chunk: int = 1
    warps: int = 1

    @property
    def channels(self) -> int:
        """Channels of one program."""
        return self.rows * self.lanes


# With too few programs for the device four warps share one: twice the work in all, but a shorter walk.
FORWARD_TILES = {"many": Tile(), "few": Tile(warps=4)}
BACKWARD_TILES = {"many": Tile(chunk=4), "few": Tile(chunk=8, warps=4)}

FUSED = True  # multiply-adds; said aloud because Triton is about to change its default
CONV_TOKENS, CONV_CHANNELS = 16, 128  # a program of the convolution
CONV_SEGMENT = 32  # tokens that a program of its backward walks


def unsupported_reasons(op_name: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return why the kernels cannot take these tensors (by operand name, absent ones left out), if so."""
    reasons = []
    device = "cpu" if _interpreted() else "cuda"
    elsewhere = [f"{name} ({x.device})" for name, x in tensors.items() if x.device.type != device]
    if elsewhere:
        where = "Triton's interpreter runs on cpu" if _interpreted() else "the kernels run on CUDA devices"
        reasons.append(f"{where}, not where these are: {', '.join(elsewhere)}")
    odd = [f"{name} ({str(x.dtype).removeprefix('torch.')})" for name, x in tensors.items() if x.dtype not in DTYPES]
    if odd:
        reasons.append(f"the kernels take float32, bfloat16 and float16, not {', '.join(odd)}")
    if op_name == "selective_scan":
        states = tensors["A"].shape[1]
        if states > MAX_STATES or states & (states - 1) or not states:
            reasons.append(f"the number of states must be a power of two up to {MAX_STATES}, not {states}")
    elif op_name == "causal_conv":
        taps = tensors["weight"].shape[2]
        if not 1 <= taps <= MAX_TAPS:
            reasons.append(f"the convolution must have 1 to {MAX_TAPS} taps, not {taps}")
    return reasons


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    gate: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    tile: Tile | None = None,
) -> Tensor:
    """Return the output (b, l, e) of `rmeeto.ops.selective_scan`; ``tile`` overrides the rule, for measurements."""
    batch, length, width = u.shape
    out = u.new_empty(u.shape)
    if not out.numel():
        return out
    u, delta, B, C, skip, gate, delta_bias = _readable(u, delta, B, C, skip, gate, delta_bias)
    A = A.contiguous()
    tile = tile or _tile(FORWARD_TILES, u)
    with _on(u):
        # fmt: off
        _scan_forward[(batch * triton.cdiv(width, tile.channels),)](
            u, delta, A, B, C, skip, gate, delta_bias, out,
            length, width, *_strides(u, delta, B, C, gate),
            SOFTPLUS=delta_softplus, REVERSE=reverse, STATES=A.shape[1],
            ROWS=tile.rows, LANES=tile.lanes, num_warps=tile.warps, enable_fp_fusion=FUSED,
        )
        # fmt: on
    return out


def selective_scan_backward(
    grad: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    gate: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    tile: Tile | None = None,
) -> tuple[Tensor, ...]:
    """Return the gradients of u, delta, A, B, C, skip, gate and delta_bias, of shape (0,) for absent operands."""
    operands = (u, delta, A, B, C, skip, gate, delta_bias)
    if not u.numel():
        return tuple(u.new_empty(0) if x is None else torch.zeros_like(x).contiguous() for x in operands)
    (batch, length, width), states = u.shape, A.shape[1]
    grad, u, delta, B, C, skip, gate, delta_bias = _readable(grad, u, delta, B, C, skip, gate, delta_bias)
    A = A.contiguous()
    tile = tile or _tile(BACKWARD_TILES, u)
    blocks, chunks = triton.cdiv(width, tile.channels), triton.cdiv(length, tile.chunk)

    du, ddelta = u.new_empty(u.shape), delta.new_empty(delta.shape)
    dgate = None if gate is None else gate.new_empty(gate.shape)
    floats = partial(torch.empty, dtype=torch.float32, device=u.device)
    kept = floats(batch * blocks, chunks - 1, tile.channels * states)
    dB, dC = floats(2, blocks, batch, length, states).unbind()  # partial sums over channels
    dA = floats(batch, width, states)
    dskip = None if skip is None else floats(batch, width)
    dbias = None if delta_bias is None else floats(batch, width)
    with _on(u):
        # fmt: off
        _scan_backward[(batch * blocks,)](
            grad, u, delta, A, B, C, skip, gate, delta_bias, kept,
            du, ddelta, dA, dB, dC, dskip, dgate, dbias,
            batch, length, width, *_strides(grad, u, delta, B, C, gate),
            SOFTPLUS=delta_softplus, REVERSE=reverse, STATES=states,
            ROWS=tile.rows, LANES=tile.lanes, CHUNK=tile.chunk, num_warps=tile.warps, enable_fp_fusion=FUSED,
        )
        # fmt: on
    totals = (du, ddelta, dA.sum(0), dB.sum(0), dC.sum(0), _total(dskip), dgate, _total(dbias))
    return tuple(
        u.new_empty(0) if x is None or total is None else total.to(x.dtype).contiguous()
        for x, total in zip(operands, totals, strict=True)
    )


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Return the output (b, l, e) of `rmeeto.ops.causal_conv`."""
    batch, length, width = x.shape
    out = x.new_empty(x.shape)
    if not out.numel():
        return out
    x, bias = _readable(x, bias)
    blocks = triton.cdiv(length, CONV_TOKENS) * triton.cdiv(width, CONV_CHANNELS)
    with _on(x):
        # fmt: off
        _conv_forward[(batch * blocks,)](
            x, weight.contiguous(), bias, out, length, width, *_strides(x),
            SILU=silu, REVERSE=reverse, TAPS=weight.shape[2],
            TOKENS=CONV_TOKENS, CHANNELS=CONV_CHANNELS, num_warps=4, enable_fp_fusion=FUSED,
        )
        # fmt: on
    return out


def causal_conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool
) -> tuple[Tensor, ...]:
    """Return the gradients of x, weight and bias, of shape (0,) for an absent bias."""
    (batch, length, width), taps = x.shape, weight.shape[2]
    absent = x.new_empty(0)
    if not x.numel():
        zeros = (torch.zeros_like(p).contiguous() for p in (x, weight))
        return (*zeros, absent if bias is None else torch.zeros_like(bias))
    grad, x, bias = _readable(grad, x, bias)
    segments = triton.cdiv(length, CONV_SEGMENT)
    dx = x.new_empty(x.shape)
    # Partial sums over the tokens of a segment, the last row the bias's.
    sums = torch.empty(batch * segments, taps + 1, width, dtype=torch.float32, device=x.device)
    with _on(x):
        # fmt: off
        _conv_backward[(batch * segments * triton.cdiv(width, CONV_CHANNELS),)](
            grad, x, weight.contiguous(), bias, dx, sums, length, width, *_strides(grad, x),
            SILU=silu, REVERSE=reverse, TAPS=taps,
            SEGMENT=CONV_SEGMENT, CHANNELS=CONV_CHANNELS, num_warps=1, enable_fp_fusion=FUSED,
        )
        # fmt: on
    total = sums.sum(0)
    dweight = total[:taps].t().to(weight.dtype).contiguous().view(weight.shape)
    return dx, dweight, absent if bias is None else total[taps].to(bias.dtype)


def _readable(*tensors: Tensor | None) -> list[Any]:
    """Return the tensors with neighbours of the last axis side by side; other strides stay as they are."""
    return [x if x is None or x.stride(-1) == 1 else x.contiguous() for x in tensors]


def _strides(*tensors: Tensor | None) -> tuple[int, ...]:
    """Return batch and token stride of each, zeros for an absent one."""
    return tuple(s for x in tensors for s in ((0, 0) if x is None else x.stride()[:2]))


def _total(partial: Tensor | None) -> Tensor | None:
    return None if partial is None else partial.sum(0)


def _tile(tiles: Mapping[str, Tile], u: Tensor) -> Tile:
    """Return the tile for as many programs as ``u`` asks for, against what the device has room for."""
    programs = u.shape[0] * triton.cdiv(u.shape[2], tiles["many"].channels)
    return tiles["many" if programs >= _multiprocessors(u.device) else "few"]


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 0


def _on(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which kernels are launched on the device of ``x``, not on the current one."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def _interpreted() -> bool:
    return not isinstance(_scan_forward, triton.JITFunction)


# Walk and position: a walk visits positions 0, 1, …; the token at a position is counted from the end when
# REVERSE. Absent operands arrive as None and their code is not compiled. Token counts change from block to
# block as tokens merge, so kernels are not specialised on them.


@triton.jit
def _token(position, length, REVERSE: tl.constexpr):
    """Return the token at a position of the walk, wide enough to be multiplied with any stride."""
    token = length - 1 - position if REVERSE else position
    return token.to(tl.int64)


@triton.jit
def _only_if(condition, index, size):
    """Return which indices are below ``size``, or none; a scalar mask that the interpreter understands too."""
    return index < tl.where(condition, size, 0)


@triton.jit
def _block_of_channels(width, ROWS: tl.constexpr, LANES: tl.constexpr):
    """Return this program's image, block, channels (ROWS, LANES), and which of these exist."""
    blocks = tl.cdiv(width, ROWS * LANES)
    block = tl.program_id(0) % blocks
    channel = block * (ROWS * LANES) + tl.arange(0, ROWS)[:, None] * LANES + tl.arange(0, LANES)[None, :]
    return (tl.program_id(0) // blocks).to(tl.int64), block, channel, channel < width


@triton.jit
def _load(ptr, mask):
    """Return what the pointers hold as float32, zero where masked out."""
    return tl.load(ptr, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _softplus(x):
    """Return log(1 + exp(x)) to float32's relative accuracy at both ends.

    max(x, 0) + log(1 + z) with z = exp(-|x|) in (0, 1]. The device's fast logarithm is accurate to 2^-22
    absolutely, too coarse for the small steps of a trained model, so log(1 + z) = 2 artanh(s), s = z / (2 + z),
    as s times a polynomial in s^2 in [0, 1/9] (fitted at Chebyshev nodes, relative error 4e-9).
    """
    z = tl.exp(-tl.abs(x))
    s = z / (2.0 + z)
    q = s * s
    poly = 0.28157778313522575 * q + 0.2796515775679465
    poly = poly * q + 0.40024595229818943
    poly = poly * q + 0.6666632164140144
    poly = poly * q + 2.000000007681758
    return tl.maximum(x, 0.0) + s * poly


@triton.jit
def _biased(delta, bias):
    """Return the number whose softplus, or which itself, is the step size."""
    biased = delta.to(tl.float32)
    if bias is not None:
        biased += bias
    return biased


@triton.jit
def _step_size(delta, bias, SOFTPLUS: tl.constexpr):
    """Return how far the recurrence goes at a token: d of the equations."""
    d = _biased(delta, bias)
    return _softplus(d) if SOFTPLUS else d


# fmt: off
@triton.jit(do_not_specialize=["length"])
def _scan_forward(
    u_ptr, delta_ptr, A_ptr, B_ptr, C_ptr, skip_ptr, gate_ptr, bias_ptr, out_ptr,
    length, width,
    u_batch, u_token, delta_batch, delta_token, B_batch, B_token, C_batch, C_token, gate_batch, gate_token,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, STATES: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr,
):
    # fmt: on
    image, _, channel, exists = _block_of_channels(width, ROWS, LANES)
    state = tl.arange(0, STATES)
    u_ptr += image * u_batch
    delta_ptr += image * delta_batch
    B_ptr += image * B_batch
    C_ptr += image * C_batch
    out_ptr += image * length * width
    rate = _load(A_ptr + channel[:, None, :] * STATES + state[None, :, None], exists[:, None, :])
    rate *= LOG2_E  # exp(d * A) is then a bare exp2
    bias = None
    if bias_ptr is not None:
        bias = _load(bias_ptr + channel, exists)
    if skip_ptr is not None:
        skip = _load(skip_ptr + channel, exists)
    if gate_ptr is not None:
        gate_ptr += image * gate_batch

    # A token's operands are asked for one token ahead, so that they arrive while this one is computed.
    token = _token(tl.full((), 0, tl.int32), length, REVERSE)
    u_next = tl.load(u_ptr + token * u_token + channel, mask=exists, other=0.0)
    delta_next = tl.load(delta_ptr + token * delta_token + channel, mask=exists, other=0.0)
    B_next = tl.load(B_ptr + token * B_token + state)
    C_next = tl.load(C_ptr + token * C_token + state)
    if gate_ptr is not None:
        gate_next = tl.load(gate_ptr + token * gate_token + channel, mask=exists, other=0.0)

    h = tl.zeros((ROWS, STATES, LANES), tl.float32)
    for position in range(length):
        here = token
        u = u_next.to(tl.float32)
        d = _step_size(delta_next, bias, SOFTPLUS)
        B = B_next.to(tl.float32)
        C = C_next.to(tl.float32)
        if gate_ptr is not None:
            gate = gate_next.to(tl.float32)

        token = _token(tl.minimum(position + 1, length - 1), length, REVERSE)
        u_next = tl.load(u_ptr + token * u_token + channel, mask=exists, other=0.0)
        delta_next = tl.load(delta_ptr + token * delta_token + channel, mask=exists, other=0.0)
        B_next = tl.load(B_ptr + token * B_token + state)
        C_next = tl.load(C_ptr + token * C_token + state)
        if gate_ptr is not None:
            gate_next = tl.load(gate_ptr + token * gate_token + channel, mask=exists, other=0.0)

        h = tl.exp2(rate * d[:, None, :]) * h + B[None, :, None] * (d * u)[:, None, :]
        y = tl.sum(h * C[None, :, None], axis=1)
        if skip_ptr is not None:
            y += skip * u
        if gate_ptr is not None:
            y *= gate * tl.sigmoid(gate)
        tl.store(out_ptr + here * width + channel, y, mask=exists)


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
    image, block, channel, exists = _block_of_channels(width, ROWS, LANES)
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

    rate = _load(A_ptr + channel[:, None, :] * STATES + state[None, :, None], exists[:, None, :])
    rate *= LOG2_E
    bias = None
    if bias_ptr is not None:
        bias = _load(bias_ptr + channel, exists)
        dbias = tl.zeros((ROWS, LANES), tl.float32)
    if skip_ptr is not None:
        skip = _load(skip_ptr + channel, exists)
        dskip = tl.zeros((ROWS, LANES), tl.float32)

    # The state before each chunk but the first, in the order of A: see `Tile` for why.
    in_tile = (channel[:, None, :] - block * (ROWS * LANES)) * STATES + state[None, :, None]
    kept_ptr += tl.program_id(0).to(tl.int64) * (chunks - 1) * (ROWS * STATES * LANES)
    h = tl.zeros((ROWS, STATES, LANES), tl.float32)
    for chunk in range(chunks - 1):
        for k in tl.static_range(CHUNK):
            token = _token(chunk * CHUNK + k, length, REVERSE)
            u = _load(u_ptr + token * u_token + channel, exists)
            delta = tl.load(delta_ptr + token * delta_token + channel, mask=exists, other=0.0)
            d = _step_size(delta, bias, SOFTPLUS)
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
                token = _token(tl.minimum(chunk * CHUNK + k, length - 1), length, REVERSE)
                u = _load(u_ptr + token * u_token + channel, exists)
                delta = tl.load(delta_ptr + token * delta_token + channel, mask=exists, other=0.0)
                d = _step_size(delta, bias, SOFTPLUS)
                B = tl.load(B_ptr + token * B_token + state).to(tl.float32)
                h = tl.exp2(rate * d[:, None, :]) * h + B[None, :, None] * (d * u)[:, None, :]

        for k in tl.static_range(CHUNK - 1, -1, -1):
            position = chunk * CHUNK + k
            inside = position < length
            token = _token(tl.minimum(position, length - 1), length, REVERSE)
            wanted = _only_if(inside, channel, width)
            u = _load(u_ptr + token * u_token + channel, exists)
            delta = tl.load(delta_ptr + token * delta_token + channel, mask=exists, other=0.0)
            d = _step_size(delta, bias, SOFTPLUS)
            B = tl.load(B_ptr + token * B_token + state).to(tl.float32)
            C = tl.load(C_ptr + token * C_token + state).to(tl.float32)
            dy = _load(grad_ptr + token * grad_token + channel, wanted)

            decay = tl.exp2(rate * d[:, None, :])
            left = decay * befores[k]
            h = left + B[None, :, None] * (d * u)[:, None, :]
            if gate_ptr is not None:
                y = tl.sum(h * C[None, :, None], axis=1)
                if skip_ptr is not None:
                    y += skip * u
                gate = _load(gate_ptr + token * gate_token + channel, exists)
                sigmoid = tl.sigmoid(gate)
                dgate = dy * y * sigmoid * (1.0 + gate * (1.0 - sigmoid))
                tl.store(dgate_ptr + token * width + channel, dgate, mask=wanted)
                dy *= gate * sigmoid

            # Rows first: they lie in one thread's registers, lanes do not.
            dC = tl.sum(tl.sum(h * dy[:, None, :], axis=0), axis=1)
            tl.store(dC_ptr + token * STATES + state, dC, mask=_only_if(inside, state, STATES))
            dh += C[None, :, None] * dy[:, None, :]
            dB = tl.sum(tl.sum(dh * (d * u)[:, None, :], axis=0), axis=1)
            tl.store(dB_ptr + token * STATES + state, dB, mask=_only_if(inside, state, STATES))

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
                dd *= tl.sigmoid(_biased(delta, bias))
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


# fmt: off
@triton.jit(do_not_specialize=["length"])
def _conv_forward(
    x_ptr, weight_ptr, bias_ptr, out_ptr, length, width, x_batch, x_token,
    SILU: tl.constexpr, REVERSE: tl.constexpr, TAPS: tl.constexpr,
    TOKENS: tl.constexpr, CHANNELS: tl.constexpr,
):
    # fmt: on
    # One program: TOKENS × CHANNELS outputs. Inputs are asked for once per tap; all but the first come from cache.
    across, along = tl.cdiv(width, CHANNELS), tl.cdiv(length, TOKENS)
    program = tl.program_id(0)
    image = (program // (across * along)).to(tl.int64)
    channel = program % across * CHANNELS + tl.arange(0, CHANNELS)
    position = program // across % along * TOKENS + tl.arange(0, TOKENS)
    exists = channel < width
    x_ptr += image * x_batch
    out_ptr += image * length * width

    y = tl.zeros((TOKENS, CHANNELS), tl.float32)
    if bias_ptr is not None:
        y += _load(bias_ptr + channel, exists)[None, :]
    for tap in tl.static_range(TAPS):
        source = position - (TAPS - 1 - tap)
        token = _token(source, length, REVERSE)
        inside = (source >= 0) & (source < length)
        x = _load(x_ptr + token[:, None] * x_token + channel[None, :], inside[:, None] & exists[None, :])
        weight = _load(weight_ptr + channel * TAPS + tap, exists)
        y += weight[None, :] * x
    if SILU:
        y *= tl.sigmoid(y)
    token = _token(position, length, REVERSE)
    tl.store(
        out_ptr + token[:, None] * width + channel[None, :], y, mask=(position < length)[:, None] & exists[None, :]
    )


# fmt: off
@triton.jit(do_not_specialize=["length"])
def _conv_backward(
    grad_ptr, x_ptr, weight_ptr, bias_ptr, dx_ptr, sums_ptr,
    length, width, grad_batch, grad_token, x_batch, x_token,
    SILU: tl.constexpr, REVERSE: tl.constexpr, TAPS: tl.constexpr,
    SEGMENT: tl.constexpr, CHANNELS: tl.constexpr,
):
    # fmt: on
    # One program walks SEGMENT tokens, and TAPS - 1 beyond, whose outputs also saw this segment's last inputs.
    # The last TAPS inputs, gradients and weights stand in tuples, oldest first.
    across, along = tl.cdiv(width, CHANNELS), tl.cdiv(length, SEGMENT)
    program = tl.program_id(0)
    image = (program // (across * along)).to(tl.int64)
    segment = program // across % along
    channel = program % across * CHANNELS + tl.arange(0, CHANNELS)
    exists = channel < width
    start = segment * SEGMENT
    grad_ptr += image * grad_batch
    x_ptr += image * x_batch
    dx_ptr += image * length * width
    sums_ptr += (image * along + segment) * (TAPS + 1) * width

    weights = ()
    dweights = ()
    xs = ()
    grads = ()
    for tap in tl.static_range(TAPS):
        source = start - TAPS + tap
        token = _token(source, length, REVERSE)
        early = tl.load(x_ptr + token * x_token + channel, mask=_only_if(source >= 0, channel, width), other=0.0)
        xs = xs + (early.to(tl.float32),)
        weights = weights + (_load(weight_ptr + channel * TAPS + tap, exists),)
        dweights = dweights + (tl.zeros((CHANNELS,), tl.float32),)
        grads = grads + (tl.zeros((CHANNELS,), tl.float32),)
    bias = tl.zeros((CHANNELS,), tl.float32)
    if bias_ptr is not None:
        bias += _load(bias_ptr + channel, exists)
    dbias = tl.zeros((CHANNELS,), tl.float32)

    for step in range(SEGMENT + TAPS - 1):
        position = start + step
        token = _token(position, length, REVERSE)
        wanted = _only_if(position < length, channel, width)
        x = _load(x_ptr + token * x_token + channel, wanted)
        grad = _load(grad_ptr + token * grad_token + channel, wanted)
        xs = xs[1:] + (x,)
        if SILU:
            y = bias
            for tap in tl.static_range(TAPS):
                y += weights[tap] * xs[tap]
            sigmoid = tl.sigmoid(y)
            grad *= sigmoid * (1.0 + y * (1.0 - sigmoid))
        grads = grads[1:] + (grad,)

        # An input's gradient is known when the last output that saw it is: TAPS - 1 positions later.
        dx = weights[TAPS - 1] * grads[0]
        for tap in tl.static_range(TAPS - 1):
            dx += weights[tap] * grads[TAPS - 1 - tap]
        source = position - (TAPS - 1)
        seen = _only_if((source >= start) & (source < length), channel, width)
        tl.store(dx_ptr + _token(source, length, REVERSE) * width + channel, dx, mask=seen)

        # Outputs beyond the segment count in the next one's sums.
        own = tl.where(step < SEGMENT, grad, 0.0)
        dbias += own
        updated = ()
        for tap in tl.static_range(TAPS):
            updated = updated + (dweights[tap] + own * xs[tap],)
        dweights = updated

    for tap in tl.static_range(TAPS):
        tl.store(sums_ptr + tap * width + channel, dweights[tap], mask=exists)
    tl.store(sums_ptr + TAPS * width + channel, dbias, mask=exists)
