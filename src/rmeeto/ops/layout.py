"""Where rows stand once others have left."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from rmeeto.ops.operands import misfit
from rmeeto.ops.registration import register_decision
from rmeeto.ops.select import Impl, choose

if TYPE_CHECKING:
    from jaxtyping import Int64


def lay_out(
    source: Int64[Tensor, "b r"], target: Int64[Tensor, "b r"] | None, length: int, *, impl: Impl = "auto"
) -> tuple[Int64[Tensor, "b m"], Int64[Tensor, "b m+r"]]:
    """Close the gaps that leaving rows make, keeping the order of the others.

    Args:
        source: (b, r) int64, positions among ``length`` rows that leave, each once.
        target: (b, r) int64, positions of rows that stay and take each source in, or None if they are dropped.
        length: rows there are.
        impl: ``"auto"`` or the implementation that must be used; see `rmeeto.ops.select`.

    Returns:
        kept: (b, length - r) int64, the positions that stay, ascending.
        place: (b, length) int64, where each row is afterwards: its own new place, or that of what took it in; -1
            where it is lost.

    Raises:
        UnsupportedInput: shapes do not fit each other.
        UnknownName: there is no such ``impl``.
        IndexError: a position lies outside, or leaves twice (C++ kernel; the reference does not look).

    >>> lay_out(torch.tensor([[2, 0]]), torch.tensor([[3, 1]]), 4)
    (tensor([[1, 3]]), tensor([[0, 0, 1, 1]]))
    """
    why = None
    if source.ndim != 2 or source.dtype != torch.int64 or source.shape[1] > length:
        why = f"source must be (b, r) int64 with r at most length={length}"
    elif target is not None and any(getattr(target, a) != getattr(source, a) for a in ("shape", "dtype", "device")):
        why = "target must be like source"
    if why is not None:
        raise misfit("lay_out", {"source": source, "target": target}, why)
    return cast(tuple[Tensor, Tensor], torch.ops.rmeeto.lay_out(source, target, length, impl))


# The same construction as in `rmeeto.ops.scan`, without gradients.

torch.library.define("rmeeto::lay_out", "(Tensor source, Tensor? target, SymInt length, str impl) -> (Tensor, Tensor)")


def _forward(source: Tensor, target: Tensor | None, length: int, impl: str) -> tuple[Tensor, Tensor]:
    return choose("lay_out", impl, {"source": source}).lay_out(source, target, length)


def _fake(source: Tensor, target: Tensor | None, length: int, impl: str) -> tuple[Tensor, Tensor]:
    batch, r = source.shape
    return source.new_empty((batch, length - r)), source.new_empty((batch, length))


register_decision("lay_out", _forward, _fake)
