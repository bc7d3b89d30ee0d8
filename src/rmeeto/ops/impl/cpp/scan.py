"""The selective scan, forward and backward, and both directions in one call."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from rmeeto.ops.impl.cpp.loading import call
from rmeeto.ops.impl.cpp.operands import STORAGE, Tokens, in_dtype_of, parameter, pointer, readable, tokens
from rmeeto.ops.operands import ScanOperands


class _Scan(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "channels", "states")),
        *((name, c_int64) for name in ("storage", "delta_softplus", "reverse")),
        *((name, Tokens) for name in ("u", "delta", "gate", "B", "C", "out")),
        *((name, c_void_p) for name in ("A", "skip", "delta_bias")),
        *((name, Tokens) for name in ("grad", "du", "ddelta", "dgate", "dB", "dC")),
        *((name, c_void_p) for name in ("dA", "dskip", "ddelta_bias")),
    )


def selective_scan(operands: ScanOperands, delta_softplus: bool, reverse: bool) -> Tensor:
    """Compute `rmeeto.ops.selective_scan`."""
    given = _readable(operands)
    out = given.u.new_empty(given.u.shape)
    call("selective_scan", _Scan(*_described(given, delta_softplus, reverse, out)))
    return out.to(operands.u.dtype)


def bidirectional_scan(forward: ScanOperands, backward: ScanOperands) -> Tensor:
    """Compute `rmeeto.ops.bidirectional_scan`: the second walk finds what the first made in the cache."""
    first, second = _readable(forward._replace(gate=None)), _readable(backward)
    out = first.u.new_empty(first.u.shape)
    walks = _Scan(*_described(first, True, False, out)), _Scan(*_described(second, True, True, out))
    call("bidirectional_scan", (_Scan * 2)(*walks))
    return out.to(forward.u.dtype)


def selective_scan_backward(
    grad: Tensor, operands: ScanOperands, delta_softplus: bool, reverse: bool
) -> tuple[Tensor, ...]:
    """Compute the gradients of all operands; shape ``(0,)`` for absent ones."""
    grad, given = readable(grad), _readable(operands)
    gradients = [None if x is None else x.new_empty(x.shape) for x in given]
    du, ddelta, dA, dB, dC, dskip, dgate, ddelta_bias = gradients
    problem = _Scan(
        *_described(given, delta_softplus, reverse, None),
        *map(tokens, (grad, du, ddelta, dgate, dB, dC)),
        *map(pointer, (dA, dskip, ddelta_bias)),
    )
    call("selective_scan_backward", problem)
    return tuple(in_dtype_of(x, gradient, grad) for x, gradient in zip(operands, gradients, strict=True))


def _readable(operands: ScanOperands) -> ScanOperands:
    """The operands as the library reads them."""
    u, delta, A, B, C, skip, gate, delta_bias = operands
    A, gate = A.to(torch.float32).contiguous(), None if gate is None else readable(gate)
    u, delta, B, C = map(readable, (u, delta, B, C))
    return ScanOperands(u, delta, A, B, C, parameter(skip), gate, parameter(delta_bias))


def _described(operands: ScanOperands, delta_softplus: bool, reverse: bool, out: Tensor | None) -> tuple[Any, ...]:
    """What the structure begins with, in its order; everything behind that is for the gradients."""
    u, delta, A, B, C, skip, gate, delta_bias = operands
    return (
        *(*u.shape, A.shape[1], STORAGE[u.dtype], delta_softplus, reverse),
        *map(tokens, (u, delta, gate, B, C, out)),
        *map(pointer, (A, skip, delta_bias)),
    )
