"""The nearest column of every row, without the table of all similarities in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import torch
from torch import Tensor

from rmeeto.errors import UnknownName
from rmeeto.ops.operands import misfit
from rmeeto.ops.registration import register_decision
from rmeeto.ops.select import Impl, choose

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

Distance = Literal["cosine", "l1", "l2"]
DISTANCES: tuple[str, ...] = get_args(Distance)


def find_nearest(
    a: Float[Tensor, "b n f"],
    b: Float[Tensor, "b m f"],
    *,
    distance: Distance = "cosine",
    nth: int = 1,
    reach: int | None = None,
    seen: tuple[Int64[Tensor, "b n"], Int64[Tensor, "b n"]] | None = None,
    impl: Impl = "auto",
) -> tuple[Float[Tensor, "b n"], Int64[Tensor, "b n"]]:
    """Find each row of ``a`` its nth closest row of ``b``; equal ones rank by index.

    Similarity is the cosine of two rows, or minus the l1 or l2 distance between them as they are; arithmetic is
    float32, or float64 for float64 rows. Memory grows with n + m, not with n·m. It is a decision: no gradient.

    Args:
        a: (b, n, f); may be a slice of a larger tensor, it is read where it lies.
        b: (b, m, f), in a's dtype.
        distance: cosine, l1 or l2.
        nth: 1 for the closest; a row with fewer choices takes the farthest of them.
        reach: row i chooses among the rows i-reach … i+reach-1 of b only (time n·reach instead of n·m), which are
            the nearest 2·reach where a and b alternate in a sequence that a begins. None: among all of them.
        seen: ``(low, high)``, both (b, n) int64: row i chooses among the rows low … high-1 of b only, as far as there
            are such. Time is that of the pairs seen where rows that follow each other see about the same. A row that
            sees nothing has similarity -∞ and the index low, or the last one where low lies behind it.
        impl: ``"auto"`` or the implementation that must be used; see `rmeeto.ops.select`.

    Returns:
        The similarity (b, n) in float32 (float64 for float64 rows), and the index into b's rows (b, n), int64.

    Raises:
        UnsupportedInput: shapes do not fit each other, a row has nothing within reach, both reach and seen are given,
            nth is below 1, or ``impl`` cannot take the tensors.
        UnknownName: there is no such ``impl`` or distance.

    >>> similarity, index = find_nearest(torch.rand(2, 98, 192), torch.rand(2, 98, 192))
    >>> index.shape
    torch.Size([2, 98])
    """
    _check(a, b, distance, nth, reach, seen)
    a, b, everything = a.detach(), b.detach(), max(a.shape[1], b.shape[1])
    if seen is not None:
        found = torch.ops.rmeeto.find_nearest_seen(a, b, *seen, distance, nth, impl)
    else:
        span = everything if reach is None else min(reach, everything)
        found = torch.ops.rmeeto.find_nearest(a, b, distance, nth, span, impl)
    return cast(tuple[Tensor, Tensor], found)


def _check(
    a: Tensor, b: Tensor, distance: str, nth: int, reach: int | None, seen: tuple[Tensor, Tensor] | None
) -> None:
    if distance not in DISTANCES:
        raise UnknownName("distance", distance, DISTANCES)
    why = None
    if a.ndim != 3 or b.ndim != 3 or (a.shape[0], a.shape[2]) != (b.shape[0], b.shape[2]):
        why = "a must be (b, n, f) and b (b, m, f)"
    elif not a.is_floating_point() or a.dtype != b.dtype or a.device != b.device:
        why = "a and b must be floating, in one dtype and on one device"
    elif b.shape[1] == 0:
        why = "b has no rows to choose from"
    elif reach is not None and (reach < 1 or a.shape[1] > b.shape[1] + reach):
        why = f"within reach={reach} some row of a sees no row of b"
    elif reach is not None and seen is not None:
        why = "reach and seen are two ways to say what a row sees"
    elif seen is not None and any(
        x.shape != a.shape[:2] or x.dtype != torch.int64 or x.device != a.device for x in seen
    ):
        why = "seen must be two (b, n) int64 tensors on a's device"
    elif nth < 1:
        why = f"the closest is nth=1, not nth={nth}"
    if why is not None:
        raise misfit("find_nearest", {"a": a, "b": b}, why)


# The same construction as in `rmeeto.ops.scan`, without gradients.

torch.library.define(
    "rmeeto::find_nearest", "(Tensor a, Tensor b, str distance, int nth, SymInt reach, str impl) -> (Tensor, Tensor)"
)
torch.library.define(
    "rmeeto::find_nearest_seen",
    "(Tensor a, Tensor b, Tensor low, Tensor high, str distance, int nth, str impl) -> (Tensor, Tensor)",
)


def _forward(a: Tensor, b: Tensor, distance: str, nth: int, reach: int, impl: str) -> tuple[Tensor, Tensor]:
    return choose("find_nearest", impl, {"a": a, "b": b}).find_nearest(a, b, distance, nth, reach)


def _forward_seen(
    a: Tensor, b: Tensor, low: Tensor, high: Tensor, distance: str, nth: int, impl: str
) -> tuple[Tensor, Tensor]:
    return choose("find_nearest_seen", impl, {"a": a, "b": b}).find_nearest_seen(a, b, low, high, distance, nth)


def _fake(a: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    shape = a.shape[:2]
    similarity = a.new_empty(shape, dtype=torch.promote_types(a.dtype, torch.float32))
    return similarity, a.new_empty(shape, dtype=torch.int64)


register_decision("find_nearest", _forward, _fake)
register_decision("find_nearest_seen", _forward_seen, _fake)
