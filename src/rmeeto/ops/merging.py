"""A whole reduction by merging in one call, for inference."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rmeeto.ops.impl import cpp
from rmeeto.ops.nearest import Distance
from rmeeto.ops.select import infers_on_processor


class Merged(NamedTuple):
    """The rows that stay, and where all of them went.

    x: (b, l - r, d). residual: (b, l - r, d) or None. size: (b, l - r) float32. protected: (b, p).
    kept: (b, l - r) positions before. source: (b, r) positions before; target: (b, r), the positions afterwards of what
    took them in. place: (b, l), everybody's position afterwards.
    """

    x: Tensor
    residual: Tensor | None
    size: Tensor
    protected: Tensor
    kept: Tensor
    source: Tensor
    target: Tensor
    place: Tensor


def merge_closest(
    features: Tensor,
    x: Tensor,
    residual: Tensor | None,
    size: Tensor | None,
    protected: Tensor,
    r: int,
    *,
    distance: Distance = "cosine",
    nth: int = 1,
    reach: int | None = None,
) -> Merged | None:
    """Merge the r candidates closest to a target into it, in order and weighted by size; no gradient.

    It equals `closest_pairs`, `lay_out` and `merge_rows` one after the other, in a third of the time for one image.

    Args:
        features: (b, l, f), what rows are compared by.
        x: (b, l, d). residual: (b, l, d) float32 or None. Both move alike.
        size: (b, l) float32, or None where every row counts once.
        protected: (b, p) int64, positions of rows that take no part.
        r: rows that leave, at most as many as there are candidates.
        distance, nth, reach: as in `closest_pairs`.

    Returns:
        None where that cannot be done in one call: where somebody may want gradients or traces the model, on another
        device than a processor, without the C++ kernels, or in another dtype than float32 and bfloat16.
    """
    operands = [t for t in (features, x, residual, size, protected) if t is not None]
    if not infers_on_processor(x) or cpp.absence() is not None or not all(t.is_contiguous() for t in operands):
        return None
    in_float32 = all(t is None or t.dtype == torch.float32 for t in (residual, size))
    if features.dtype not in cpp.STORAGE or x.dtype not in cpp.STORAGE or not in_float32:
        return None
    span = x.shape[1] if reach is None else min(reach, x.shape[1])
    return Merged(*cpp.merge_closest(features, x, residual, size, protected, r, distance, nth, span))
