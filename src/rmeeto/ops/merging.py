"""A whole reduction by merging in one call, for inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rmeeto.ops.impl import cpp
from rmeeto.ops.nearest import Distance
from rmeeto.ops.operands import misfit
from rmeeto.ops.pairs import Matching, check_pairs
from rmeeto.ops.select import infers_on_processor

if TYPE_CHECKING:
    from jaxtyping import Float, Int64


class Merged(NamedTuple):
    """The rows that stay, and where all of them went.

    kept, source: positions before, of the rows that stay and of those that leave. target: the positions afterwards of
    the rows that took the sources in. place: each row's position afterwards.
    """

    x: Float[Tensor, "b m d"]
    residual: Float[Tensor, "b m d"] | None
    size: Float[Tensor, "b m"]
    protected: Int64[Tensor, "b p"]
    kept: Int64[Tensor, "b m"]
    source: Int64[Tensor, "b r"]
    target: Int64[Tensor, "b r"]
    place: Int64[Tensor, "b m+r"]


def merge_closest(
    features: Float[Tensor, "b l f"],
    x: Float[Tensor, "b l d"],
    residual: Float[Tensor, "b l d"] | None,
    size: Float[Tensor, "b l"] | None,
    protected: Int64[Tensor, "b p"],
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
        x: (b, l, d).
        residual: (b, l, d) float32 or None; moves as x does.
        size: (b, l) float32, or None if every row counts once.
        protected: (b, p) int64, positions of rows that take no part.
        r: rows that leave, at most as many as there are candidates.
        distance: as in `closest_pairs`.
        nth: as there.
        reach: as there.

    Returns:
        None if one call cannot do it, and then the parts run one by one: while PyTorch records gradients or traces,
        on another device than a processor, without the C++ kernels, in another dtype than float32 and bfloat16.

    Raises:
        UnsupportedInput: shapes do not fit each other, or fewer than r candidates. UnknownName: there is no such
            distance. IndexError: a protected position lies outside.
    """
    check_pairs("merge_closest", features, protected, r, Matching(distance, nth, reach))
    _check(features, x, residual, size, r)
    operands = [t for t in (features, x, residual, size, protected) if t is not None]
    if not infers_on_processor(x) or cpp.absence() is not None or not all(t.is_contiguous() for t in operands):
        return None
    in_float32 = all(t is None or t.dtype == torch.float32 for t in (residual, size))
    if features.dtype not in cpp.STORAGE or x.dtype not in cpp.STORAGE or not in_float32:
        return None
    span = x.shape[1] if reach is None else min(reach, x.shape[1])
    return Merged(*cpp.merge_closest(features, x, residual, size, protected, r, distance, nth, span))


def _check(features: Tensor, x: Tensor, residual: Tensor | None, size: Tensor | None, r: int) -> None:
    why = None
    if x.ndim != 3 or features.shape[:2] != x.shape[:2]:
        why = "x must be (b, l, d) and features (b, l, f)"
    elif (residual is not None and residual.shape != x.shape) or (size is not None and size.shape != x.shape[:2]):
        why = "the residual must be as x, and size (b, l)"
    elif r == 0:
        why = "r is 0: nothing is merged"
    if why is not None:
        raise misfit("merge_closest", {"features": features, "x": x, "residual": residual, "size": size}, why)
