"""The nearest column of every row."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

import torch
from torch import Tensor

from rmeeto.ops.impl.cpp.loading import call
from rmeeto.ops.impl.cpp.operands import DISTANCES, STORAGE, Tokens, pointer, readable, tokens


class _Nearest(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "rows", "columns", "width")),
        *((name, c_int64) for name in ("storage", "distance", "nth", "reach")),
        *((name, Tokens) for name in ("a", "b", "a_at", "b_at")),
        *((name, c_void_p) for name in ("similarity", "index")),
        *((name, Tokens) for name in ("low", "high")),
    )


def find_nearest(a: Tensor, b: Tensor, distance: str, nth: int, reach: int) -> tuple[Tensor, Tensor]:
    """Compute `rmeeto.ops.find_nearest` without ``seen``."""
    return _nearest(a, b, distance, nth, reach, None, None)


def find_nearest_seen(
    a: Tensor, b: Tensor, low: Tensor, high: Tensor, distance: str, nth: int
) -> tuple[Tensor, Tensor]:
    """Compute `rmeeto.ops.find_nearest` with ``seen``."""
    return _nearest(a, b, distance, nth, b.shape[1], low, high)


def _nearest(
    a: Tensor, b: Tensor, distance: str, nth: int, reach: int, low: Tensor | None, high: Tensor | None
) -> tuple[Tensor, Tensor]:
    a, b = readable(a), readable(b)
    similarity = a.new_empty(a.shape[:2], dtype=torch.float32)
    index = a.new_empty(a.shape[:2], dtype=torch.int64)
    problem = _Nearest(
        *(*a.shape[:2], *b.shape[1:]),
        *(STORAGE[a.dtype], DISTANCES[distance], nth, reach),
        *(tokens(a), tokens(b), Tokens(), Tokens(), pointer(similarity), pointer(index)),
        *(tokens(low), tokens(high)),
    )
    call("find_nearest", problem)
    return similarity, index
