"""The nearest column of every row, from the similarities of some rows at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from rmeeto.ops.autocast import without_autocast
from rmeeto.ops.impl.reference.arithmetic import arithmetic

CHUNK_BYTES = 8 << 20  # of similarities at a time: enough for a fast product, little beside the tokens
NARROW = 256  # rows at a time where each sees a few columns only


def find_nearest(a: Tensor, b: Tensor, distance: str, nth: int, reach: int) -> tuple[Tensor, Tensor]:
    """Compare within reach; see `rmeeto.ops.find_nearest` for the meaning and the shapes."""
    row = torch.arange(a.shape[1], device=a.device)[None]
    bounds = [(i - reach, i + reach) for i in range(a.shape[1])]
    return _nearest(a, b, row - reach, row + reach, bounds, distance, nth)


def find_nearest_seen(
    a: Tensor, b: Tensor, low: Tensor, high: Tensor, distance: str, nth: int
) -> tuple[Tensor, Tensor]:
    """Compare within ranges; see `rmeeto.ops.find_nearest`. The processor waits once for another device."""
    bounds = list(zip(low.amin(0).tolist(), high.amax(0).tolist(), strict=True)) if len(low) else []
    return _nearest(a, b, low, high, bounds, distance, nth)


def _nearest(
    a: Tensor, b: Tensor, low: Tensor, high: Tensor, bounds: Sequence[tuple[int, int]], distance: str, nth: int
) -> tuple[Tensor, Tensor]:
    """Compare some rows at a time, and for each piece the columns that one of its rows sees in one of the images.

    low, high: (b, n) or (1, n). bounds: per row, the columns that it sees in any image.
    """
    a, b = a.to(arithmetic(a)), b.to(arithmetic(b))
    batch, rows, columns = *a.shape[:2], b.shape[1]
    low, high = low.clamp(0, columns), high.clamp(0, columns)
    if not batch * rows:
        return a.new_empty(batch, rows), a.new_empty(batch, rows, dtype=torch.int64)
    fitting = CHUNK_BYTES // (batch * columns * a.element_size())
    widest = max(end - first for first, end in bounds)
    step = max(1, min(fitting, max(widest // 2, NARROW)))
    with without_autocast(a):  # half-precision products would scramble near ties
        if distance == "cosine":
            a, b = functional.normalize(a, dim=-1), functional.normalize(b, dim=-1)
        found = []
        for start in range(0, rows, step):
            piece = slice(start, start + step)
            first, end = _span(bounds[piece], columns)
            score = _similarity(a[:, piece], b[:, first:end], distance)
            found.append(_best_seen(score, first, low[:, piece], high[:, piece], nth))
    best, index = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    return best, torch.where(low < high, index, low.clamp(max=columns - 1))


def _span(bounds: Sequence[tuple[int, int]], columns: int) -> tuple[int, int]:
    """Return first and end of the columns that some rows see, and of one at least."""
    first = min(max(0, min(first for first, _ in bounds)), columns - 1)
    return first, max(first + 1, min(columns, max(end for _, end in bounds)))


def _similarity(a: Tensor, b: Tensor, distance: str) -> Tensor:
    """Return the similarity (b, n, m) of rows; l2 without the products that would drown small distances."""
    if distance == "cosine":
        return a @ b.mT
    return -torch.cdist(a, b, p=1.0 if distance == "l1" else 2.0, compute_mode="donot_use_mm_for_euclid_dist")


def _best_seen(score: Tensor, first: int, low: Tensor, high: Tensor, nth: int) -> tuple[Tensor, Tensor]:
    """Return value and index of each row's nth best among the columns [low, high), or of the last of those.

    score: (b, n, m), of the columns from ``first`` on. Where nothing is seen the value is -∞ and the index void.
    """
    column = torch.arange(first, first + score.shape[-1], device=score.device)
    seen = (column >= low[..., None]) & (column < high[..., None])
    score = score.masked_fill(~seen, -torch.inf)
    if nth == 1:
        best = score.max(dim=-1)
        return best.values, best.indices + first
    ranked = score.sort(dim=-1, descending=True, stable=True)
    place = ((high - low).clamp(1, nth) - 1).expand(score.shape[:-1])[..., None]
    return ranked.values.gather(-1, place)[..., 0], ranked.indices.gather(-1, place)[..., 0] + first
