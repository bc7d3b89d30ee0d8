"""A whole reduction by merging in one call."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

import torch
from torch import Tensor

from rmeeto.ops.impl.cpp.loading import call
from rmeeto.ops.impl.cpp.operands import CHOICES, STORAGE, Choices, pointer


class _Merging(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "protected_count", "removed", "width", "channels")),
        *((name, c_int64) for name in ("features_storage", "storage", *CHOICES)),
        *((name, c_void_p) for name in ("features", "x", "residual", "size", "protected_at")),
        *((name, c_void_p) for name in ("x_left", "residual_left", "size_left", "protected_left_at")),
        *((name, c_void_p) for name in ("kept", "source", "place", "target")),
    )


def merge_closest(
    features: Tensor,
    x: Tensor,
    residual: Tensor | None,
    size: Tensor | None,
    protected: Tensor,
    r: int,
    choices: Choices,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute `rmeeto.ops.merge_closest` or `merge_neighbours`; all operands are contiguous."""
    batch, length, channels = x.shape
    count, left = protected.shape[1], length - r
    # sizes one by one: a tuple of them takes PyTorch twice as long
    x_left = x.new_empty(batch, left, channels)
    residual_left = None if residual is None else residual.new_empty(batch, left, channels)
    size_left, protected_left = x.new_empty(batch, left, dtype=torch.float32), protected.new_empty(batch, count)
    kept, place = protected.new_empty(batch, left), protected.new_empty(batch, length)
    source, target = protected.new_empty(batch, r), protected.new_empty(batch, r)
    problem = _Merging(
        *(batch, length, count, r, features.shape[2], channels),
        *(STORAGE[features.dtype], STORAGE[x.dtype], *choices),
        *(features.data_ptr(), x.data_ptr(), pointer(residual), pointer(size), protected.data_ptr()),
        *(x_left.data_ptr(), pointer(residual_left), size_left.data_ptr(), protected_left.data_ptr()),
        *(kept.data_ptr(), source.data_ptr(), place.data_ptr(), target.data_ptr()),
    )
    call("merge_closest", problem)
    return x_left, residual_left, size_left, protected_left, kept, source, target, place
