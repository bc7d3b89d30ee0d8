"""The causal convolution, forward and backward: a few multiplications per element, bound by memory alone."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rmeeto.ops.impl.triton.launch import FUSED, on_device_of, readable, strides
from rmeeto.ops.impl.triton.walk import load, only_if, token_at

CONV_TOKENS, CONV_CHANNELS = 16, 128  # a program of the convolution
CONV_SEGMENT = 32  # tokens that a program of its backward walks


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool) -> Tensor:
    """Return the output (b, l, e) of `rmeeto.ops.causal_conv`."""
    batch, length, width = x.shape
    out = x.new_empty(x.shape)
    if not out.numel():
        return out
    x, bias = readable(x, bias)
    blocks = triton.cdiv(length, CONV_TOKENS) * triton.cdiv(width, CONV_CHANNELS)
    with on_device_of(x):
        # fmt: off
        _conv_forward[(batch * blocks,)](
            x, weight.contiguous(), bias, out, length, width, *strides(x),
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
    grad, x, bias = readable(grad, x, bias)
    segments = triton.cdiv(length, CONV_SEGMENT)
    dx = x.new_empty(x.shape)
    # Partial sums over the tokens of a segment, the last row the bias's.
    sums = torch.empty(batch * segments, taps + 1, width, dtype=torch.float32, device=x.device)
    with on_device_of(x):
        # fmt: off
        _conv_backward[(batch * segments * triton.cdiv(width, CONV_CHANNELS),)](
            grad, x, weight.contiguous(), bias, dx, sums, length, width, *strides(grad, x),
            SILU=silu, REVERSE=reverse, TAPS=taps,
            SEGMENT=CONV_SEGMENT, CHANNELS=CONV_CHANNELS, num_warps=1, enable_fp_fusion=FUSED,
        )
        # fmt: on
    total = sums.sum(0)
    dweight = total[:taps].t().to(weight.dtype).contiguous().view(weight.shape)
    return dx, dweight, absent if bias is None else total[taps].to(bias.dtype)


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
        y += load(bias_ptr + channel, exists)[None, :]
    for tap in tl.static_range(TAPS):
        source = position - (TAPS - 1 - tap)
        token = token_at(source, length, REVERSE)
        inside = (source >= 0) & (source < length)
        x = load(x_ptr + token[:, None] * x_token + channel[None, :], inside[:, None] & exists[None, :])
        weight = load(weight_ptr + channel * TAPS + tap, exists)
        y += weight[None, :] * x
    if SILU:
        y *= tl.sigmoid(y)
    token = token_at(position, length, REVERSE)
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
        token = token_at(source, length, REVERSE)
        early = tl.load(x_ptr + token * x_token + channel, mask=only_if(source >= 0, channel, width), other=0.0)
        xs = xs + (early.to(tl.float32),)
        weights = weights + (load(weight_ptr + channel * TAPS + tap, exists),)
        dweights = dweights + (tl.zeros((CHANNELS,), tl.float32),)
        grads = grads + (tl.zeros((CHANNELS,), tl.float32),)
    bias = tl.zeros((CHANNELS,), tl.float32)
    if bias_ptr is not None:
        bias += load(bias_ptr + channel, exists)
    dbias = tl.zeros((CHANNELS,), tl.float32)

    for step in range(SEGMENT + TAPS - 1):
        position = start + step
        token = token_at(position, length, REVERSE)
        wanted = only_if(position < length, channel, width)
        x = load(x_ptr + token * x_token + channel, wanted)
        grad = load(grad_ptr + token * grad_token + channel, wanted)
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
        seen = only_if((source >= start) & (source < length), channel, width)
        tl.store(dx_ptr + token_at(source, length, REVERSE) * width + channel, dx, mask=seen)

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
