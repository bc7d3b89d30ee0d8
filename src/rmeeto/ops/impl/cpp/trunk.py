"""All blocks of a network and the reductions between them in one call."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, addressof, c_int64, c_void_p

import torch
from torch import Tensor

from rmeeto.ops.impl.cpp.loading import call
from rmeeto.ops.impl.cpp.operands import DISTANCES, STORAGE


class _Trunk(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("depth", "batch", "tokens", "fixed", "dim")),
        *((name, c_int64) for name in ("x_storage", "storage", "distance", "nth", "reach", "cache")),
        *((name, c_void_p) for name in ("blocks", "removed", "x", "fixed_at")),
        *((name, c_void_p) for name in ("out", "stream", "fixed_left_at")),
    )


def run_trunk(
    blocks: Sequence[int],
    removed: Sequence[int],
    x: Tensor,
    protected: Tensor,
    dtype: torch.dtype,
    distance: str,
    nth: int,
    reach: int,
    cache: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `rmeeto.ops.trunk.run_trunk`; both tensors are contiguous, blocks are what the library packed."""
    depth, (batch, length, dim) = len(blocks), x.shape
    left = length - sum(removed)
    out, stream = x.new_empty(batch, left, dim, dtype=dtype), x.new_empty(batch, left, dim, dtype=torch.float32)
    protected_left = torch.empty_like(protected)
    given = (c_void_p * depth)(*blocks), (c_int64 * depth)(*removed)
    trunk = _Trunk(
        *(depth, batch, length, protected.shape[1], dim, STORAGE[x.dtype], STORAGE[dtype]),
        *(DISTANCES[distance], nth, reach, cache),
        *(addressof(array) for array in given),
        *(y.data_ptr() for y in (x, protected, out, stream, protected_left)),
    )
    call("trunk_run", trunk)
    return out, stream, protected_left
