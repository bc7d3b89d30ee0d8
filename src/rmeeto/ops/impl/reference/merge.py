"""Merge rows into others, and the gradient."""

from __future__ import annotations

from torch import Tensor

from rmeeto.ops.rows import flat_index, take


def merge_rows(values: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Touch only the rows that something ends in; see `rmeeto.ops.merge_rows` for the meaning and the shapes."""
    out, rows = take(values, kept), flat_index(target, kept.shape[1])
    flat = out.flatten(0, 1)
    change = (take(values, source).flatten(0, 1) - flat.index_select(0, rows)) * share.reshape(-1, 1)
    return flat.index_add(0, rows, change.to(values.dtype)).reshape(out.shape)


def merge_rows_backward(grad: Tensor, kept: Tensor, source: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """Return the gradient of the values: a group's members get their shares, the row that stayed the rest."""
    length = kept.shape[1] + source.shape[1]
    rest = share.new_ones(kept.shape).scatter_add(1, target, -share)
    staying, leaving = grad * rest[..., None], take(grad, target) * share[..., None]
    values = grad.new_zeros((grad.shape[0] * length, grad.shape[2]))
    for positions, rows in ((kept, staying), (source, leaving)):
        values = values.index_copy(0, flat_index(positions, length), rows.flatten(0, 1).to(grad.dtype))
    return values.reshape(grad.shape[0], length, grad.shape[2])
