"""Which rows stay, and where every row goes."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

from torch import Tensor

from rmeeto.ops.impl.cpp.loading import call
from rmeeto.ops.impl.cpp.operands import Tokens, pointer, tokens


class _Layout(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("batch", "tokens", "removed")),
        *((name, Tokens) for name in ("source", "target")),
        *((name, c_void_p) for name in ("kept", "place")),
    )


def lay_out(source: Tensor, target: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
    """Compute `rmeeto.ops.lay_out`."""
    batch, removed = source.shape
    kept, place = source.new_empty((batch, length - removed)), source.new_empty((batch, length))
    problem = _Layout(batch, length, removed, tokens(source), tokens(target), pointer(kept), pointer(place))
    call("lay_out", problem)
    return kept, place
