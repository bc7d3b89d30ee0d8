"""The selective scan, forward and backward, and both directions in one call."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, c_int64, c_void_p

import torch
from torch import Tensor

from rmeeto.ops.impl.cpp.loading import call
from rmeeto.ops.impl.cpp.operands import (
    STORAGE,
    Tokens,
    in_dtype_of,
    like,
    like_parameter,
    parameter,
    pointer,
    readable,
    tokens,
)


class _Scan(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "channels", "states")),
        *((name, c_int64) for name in ("storage", "delta_softplus", "reverse")),
        *((name, Tokens) for name in ("u", "delta", "gate", "B", "C", "out")),
        *((name, c_void_p) for name in ("A", "skip", "delta_bias")),
        *((name, Tokens) for name in ("grad", "du", "ddelta", "dgate", "dB", "dC")),
        *((name, c_void_p) for name in ("dA", "dskip", "ddelta_bias")),
    )


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
) -> Tensor:
    """Compute `rmeeto.ops.selective_scan`."""
    dtype, u, delta, B, C = u.dtype, readable(u), readable(delta), readable(B), readable(C)
    gate = None if gate is None else readable(gate)
    A, skip, delta_bias = A.to(torch.float32).contiguous(), parameter(skip), parameter(delta_bias)
    out = u.new_empty(u.shape)
    problem = _Scan(
        *(*u.shape, A.shape[1]),
        *(STORAGE[u.dtype], delta_softplus, reverse),
        *(tokens(x) for x in (u, delta, gate, B, C, out)),
        *(pointer(x) for x in (A, skip, delta_bias)),
    )
    call("scan_forward", problem)
    return out.to(dtype)


def scan_both(forward: Sequence[Tensor], backward: Sequence[Tensor], gate: Tensor) -> Tensor:
    """Compute `rmeeto.ops.bidirectional_scan`: the second walk finds what the first made in the cache."""
    dtype, gate = gate.dtype, readable(gate)
    out, walks, alive = gate.new_empty(gate.shape), (_Scan * 2)(), []
    for second, (u, delta, A, B, C, skip, bias) in enumerate((forward, backward)):
        u, delta, B, C = map(readable, (u, delta, B, C))
        per_token = [u, delta, gate if second else None, B, C]
        parameters = [x.to(torch.float32).contiguous() for x in (A, skip, bias)]
        alive += [*per_token, *parameters]
        walks[second] = _Scan(
            *(*u.shape, A.shape[1]),
            *(STORAGE[u.dtype], True, second),
            *(tokens(x) for x in (*per_token, out)),
            *(pointer(x) for x in parameters),
        )
    call("scan_both", walks)
    return out.to(dtype)


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
) -> tuple[Tensor, ...]:
    """Compute the gradients of u, delta, A, B, C, skip, gate, delta_bias; shape ``(0,)`` for absent ones."""
    operands = (u, delta, A, B, C, skip, gate, delta_bias)
    grad, u, delta, B, C = readable(grad), readable(u), readable(delta), readable(B), readable(C)
    gate = None if gate is None else readable(gate)
    A, skip, delta_bias = A.to(torch.float32).contiguous(), parameter(skip), parameter(delta_bias)
    du, ddelta, dgate, dB, dC = (like(x) for x in (u, delta, gate, B, C))
    dA, dskip, ddelta_bias = (like_parameter(x) for x in (A, skip, delta_bias))
    problem = _Scan(
        *(*u.shape, A.shape[1]),
        *(STORAGE[u.dtype], delta_softplus, reverse),
        *(tokens(x) for x in (u, delta, gate, B, C, None)),
        *(pointer(x) for x in (A, skip, delta_bias)),
        *(tokens(x) for x in (grad, du, ddelta, dgate, dB, dC)),
        *(pointer(x) for x in (dA, dskip, ddelta_bias)),
    )
    call("scan_backward", problem)
    gradients = (du, ddelta, dA, dB, dC, dskip, dgate, ddelta_bias)
    return tuple(in_dtype_of(x, g, u) for x, g in zip(operands, gradients, strict=True))
