"""Merge rows into others, forward and backward."""

from __future__ import annotations

from ctypes import Structure, c_int64

import torch
from torch import Tensor

from rmeeto.ops.impl.cpp.loading import call
from rmeeto.ops.impl.cpp.operands import STORAGE, Tokens, readable, tokens


class _Merge(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "left", "removed", "channels", "storage")),
        *((name, Tokens) for name in ("values", "out", "kept", "source", "target", "share")),
    )


def merge_rows(values: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Compute `rmeeto.ops.merge_rows`."""
    dtype, values, share = values.dtype, readable(values), share.to(torch.float32)
    out = values.new_empty((*kept.shape, values.shape[2]))
    call("merge_rows", _merge_problem(values, out, kept, source, target, share))
    return out.to(dtype)


def merge_rows_backward(grad: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Compute the gradient of the values."""
    dtype, grad, share = grad.dtype, readable(grad), share.to(torch.float32)
    values = grad.new_empty((grad.shape[0], kept.shape[1] + source.shape[1], grad.shape[2]))
    call("merge_rows_backward", _merge_problem(values, grad, kept, source, target, share))
    return values.to(dtype)


def _merge_problem(values: Tensor, out: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> _Merge:
    (batch, length, channels), left = values.shape, kept.shape[1]
    return _Merge(
        *(batch, length, left, source.shape[1], channels, STORAGE[values.dtype]),
        *(tokens(x) for x in (values, out, kept, source, target, share)),
    )
