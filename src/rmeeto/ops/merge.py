"""Merge rows into the rows that stay, in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from rmeeto.ops.operands import misfit
from rmeeto.ops.registration import needed, register, run
from rmeeto.ops.select import Impl, choose

if TYPE_CHECKING:
    from jaxtyping import Float, Int64


def merge_rows(
    values: Float[Tensor, "b l c"],
    kept: Int64[Tensor, "b m"],
    source: Int64[Tensor, "b r"],
    target: Int64[Tensor, "b r"],
    share: Float[Tensor, "b r"],
    *,
    impl: Impl = "auto",
) -> Float[Tensor, "b m c"]:
    """Gather the rows that stay and pull each towards the rows that end in it.

    With the sum over the pairs i whose target is j::

        out_j = v_kept[j] + sum_i(share_i * (v_source[i] - v_kept[j]))

    which is the weighted mean of a group where share_i is row i's part of the group's weight. A row that nothing ends
    in keeps its bits. Positions and shares are decisions: the gradient is that of the values alone.

    Args:
        values: (b, l, c); may be a slice of a larger tensor, it is read where it lies.
        kept: (b, m) int64, the rows that stay, in the order they are to have.
        source: (b, r) int64, the others: each of the l = m + r rows stands in one of both, once.
        target: (b, r) int64, places among the m rows.
        share: (b, r), usually float32.
        impl: ``"auto"`` or the implementation that must be used; see `rmeeto.ops.select`.

    Returns:
        (b, m, c), contiguous, in the dtype of values.

    Raises:
        UnsupportedInput: shapes do not fit each other, or ``impl`` cannot take the tensors.
        UnknownName: there is no such ``impl``.
        IndexError: a position lies outside.

    >>> merge_rows(torch.rand(1, 3, 8), *map(torch.tensor, ([[0, 2]], [[1]], [[0]], [[0.5]]))).shape
    torch.Size([1, 2, 8])
    """
    _check(values, kept, source, target, share)
    merged = run("merge_rows", values, kept, source, target, share.detach(), impl)
    return cast(Tensor, merged)


def _check(values: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> None:
    positions = (kept, source, target)
    why = None
    if values.ndim != 3 or not values.is_floating_point():
        why = "values must be floating (b, l, c)"
    elif any(x.ndim != 2 or x.shape[0] != values.shape[0] for x in (*positions, share)):
        why = "kept must be (b, m), source, target and share (b, r)"
    elif not source.shape == target.shape == share.shape or kept.shape[1] + source.shape[1] != values.shape[1]:
        why = f"source, target and share must be (b, r), with kept (b, m) and m + r = {values.shape[1]}"
    elif any(x.dtype != torch.int64 for x in positions) or any(x.device != values.device for x in (*positions, share)):
        why = "positions are int64 and lie where the values do"
    if why is not None:
        given = {"values": values, "kept": kept, "source": source, "target": target, "share": share}
        raise misfit("merge_rows", given, why)


# The same construction as in `rmeeto.ops.scan`.

_PLAN_TYPES = "Tensor kept, Tensor source, Tensor target, Tensor share, str impl"
torch.library.define("rmeeto::merge_rows", f"(Tensor values, {_PLAN_TYPES}) -> Tensor")
torch.library.define("rmeeto::merge_rows_backward", f"(Tensor grad, {_PLAN_TYPES}) -> Tensor")


def _forward(values: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor, impl: str) -> Tensor:
    return choose("merge_rows", impl, {"values": values}).merge_rows(values, kept, source, target, share)


def _backward(grad: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor, impl: str) -> Tensor:
    return choose("merge_rows", impl, {"values": grad}).merge_rows_backward(grad, kept, source, target, share)


def _fake_forward(values: Tensor, kept: Tensor, *rest: Any) -> Tensor:
    return values.new_empty((*kept.shape, values.shape[2]))


def _fake_backward(grad: Tensor, kept: Tensor, source: Tensor, *rest: Any) -> Tensor:
    return grad.new_empty((grad.shape[0], kept.shape[1] + source.shape[1], grad.shape[2]))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, *plan, impl = inputs
    ctx.save_for_backward(*plan)
    ctx.impl = impl


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return needed(ctx, [run("merge_rows_backward", grad, *ctx.saved_tensors, ctx.impl)])


register("merge_rows", _forward, _backward, _fake_forward, _fake_backward, _save, _differentiate)
