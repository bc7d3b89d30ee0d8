"""A whole reduction by merging in one call, for inference: of the closest pairs, or of neighbours."""

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


class Neighbours(NamedTuple):
    """How pairs of neighbours are found; see :func:`merge_neighbours`."""

    guard: int = 0


Pairing = Matching | Neighbours


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
    matching = Matching(distance, nth, reach)
    check_pairs("merge_closest", features, protected, r, matching)
    _check("merge_closest", features, x, residual, size, r)
    return _at_once(features, x, residual, size, protected, r, matching)


def merge_neighbours(
    features: Float[Tensor, "b l f"],
    x: Float[Tensor, "b l d"],
    residual: Float[Tensor, "b l d"] | None,
    size: Float[Tensor, "b l"] | None,
    protected: Int64[Tensor, "b p"],
    r: int,
    *,
    guard: int = 0,
) -> Merged | None:
    """Merge the r candidates most similar to a neighbour into it, in order and weighted by size; no gradient.

    Of the rows that are not protected, the first, third, … are candidates. Each is compared, by the cosine, with the
    row before it and the row behind it among those; of equally similar ones the row before takes it in, and of equally
    similar candidates the earlier leaves first. Without a guard that is `merge_closest` with ``reach=1``; time is
    linear in the rows.

    Args:
        features: as in `merge_closest`.
        x: as there.
        residual: as there.
        size: as there.
        protected: as there.
        r: as there. Candidates without a neighbour that takes part leave last, into any target beside them.
        guard: so many rows on each side of the first protected one neither leave nor take others in: the ``2·guard``
            rows nearest to it, of equally near ones the earlier.

    Returns:
        None under the same conditions as `merge_closest`.

    Raises:
        UnsupportedInput: as there, or a negative guard. IndexError: a protected position lies outside.
    """
    check_pairs("merge_neighbours", features, protected, r, Matching())
    _check("merge_neighbours", features, x, residual, size, r)
    if guard < 0:
        why = f"a guard has no rows or some, not guard={guard}"
        raise misfit("merge_neighbours", {"features": features, "protected": protected}, why)
    return _at_once(features, x, residual, size, protected, r, Neighbours(guard))


def choices_of(pairing: Pairing, length: int) -> tuple[int, int, int, int, int]:
    """How pairs of ``length`` rows are found, as the C++ kernels read it."""
    if isinstance(pairing, Neighbours):
        return cpp.beside(pairing.guard)
    reach = length if pairing.reach is None else min(pairing.reach, length)
    return cpp.within_reach(pairing.distance, pairing.nth, reach)


def _at_once(
    features: Tensor,
    x: Tensor,
    residual: Tensor | None,
    size: Tensor | None,
    protected: Tensor,
    r: int,
    pairing: Pairing,
) -> Merged | None:
    operands = [t for t in (features, x, residual, size, protected) if t is not None]
    if not infers_on_processor(x) or cpp.absence() is not None or not all(t.is_contiguous() for t in operands):
        return None
    in_float32 = all(t is None or t.dtype == torch.float32 for t in (residual, size))
    if features.dtype not in cpp.STORAGE or x.dtype not in cpp.STORAGE or not in_float32:
        return None
    return Merged(*cpp.merge_closest(features, x, residual, size, protected, r, choices_of(pairing, x.shape[1])))


def _check(op_name: str, features: Tensor, x: Tensor, residual: Tensor | None, size: Tensor | None, r: int) -> None:
    why = None
    if x.ndim != 3 or features.shape[:2] != x.shape[:2]:
        why = "x must be (b, l, d) and features (b, l, f)"
    elif (residual is not None and residual.shape != x.shape) or (size is not None and size.shape != x.shape[:2]):
        why = "the residual must be as x, and size (b, l)"
    elif r == 0:
        why = "r is 0: nothing is merged"
    if why is not None:
        raise misfit(op_name, {"features": features, "x": x, "residual": residual, "size": size}, why)
