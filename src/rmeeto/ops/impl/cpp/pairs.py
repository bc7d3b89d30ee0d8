"""The closest pairs of candidates and targets."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

from torch import Tensor

from rmeeto.ops.impl.cpp.loading import call
from rmeeto.ops.impl.cpp.operands import DISTANCES, STORAGE, Tokens, pointer, readable, tokens


class _Pairs(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "protected_count", "removed", "width")),
        *((name, c_int64) for name in ("storage", "distance", "nth", "reach", "guard")),
        *((name, Tokens) for name in ("features", "protected_at")),
        *((name, c_void_p) for name in ("source", "target", "ranked", "targets")),
    )


def closest_pairs(
    features: Tensor, protected: Tensor, r: int, distance: str, nth: int, reach: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute `rmeeto.ops.closest_pairs`."""
    features = readable(features)
    (batch, length, width), count = features.shape, protected.shape[1]
    targets = (length - count) // 2
    rows = (r, r, length - count - targets, targets)
    source, target, ranked, others = (protected.new_empty(batch, n) for n in rows)
    problem = _Pairs(
        *(batch, length, count, r, width),
        *(STORAGE[features.dtype], DISTANCES[distance], nth, reach, 0),
        *(tokens(features), tokens(protected)),
        *(pointer(x) for x in (source, target, ranked, others)),
    )
    call("closest_pairs", problem)
    return source, target, ranked, others
