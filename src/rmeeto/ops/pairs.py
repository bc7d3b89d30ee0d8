"""Pairs of similar rows: candidates and targets alternate, and the candidates closest to a target go first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rmeeto.errors import UnknownName
from rmeeto.ops.nearest import DISTANCES, Distance
from rmeeto.ops.operands import misfit
from rmeeto.ops.registration import register_decision
from rmeeto.ops.select import Impl, choose

if TYPE_CHECKING:
    from jaxtyping import Float, Int64


class Matching(NamedTuple):
    """How pairs are found; see :func:`closest_pairs`."""

    distance: Distance = "cosine"
    nth: int = 1
    reach: int | None = None


class Pairs(NamedTuple):
    """r pairs per image, as positions, and the two groups they were drawn from.

    source, target: by falling similarity. ranked: all n - n//2 candidates by falling similarity, the sources first.
    targets: the n//2 others, ascending.
    """

    source: Int64[Tensor, "b r"]
    target: Int64[Tensor, "b r"]
    ranked: Int64[Tensor, "b candidates"]
    targets: Int64[Tensor, "b targets"]


def closest_pairs(
    features: Float[Tensor, "b l f"],
    protected: Int64[Tensor, "b p"],
    r: int,
    *,
    distance: Distance = "cosine",
    nth: int = 1,
    reach: int | None = None,
    impl: Impl = "auto",
) -> Pairs:
    """Pair each candidate with its nth closest target and rank the candidates by that similarity.

    Of the n rows that are not protected, the first, third, … are candidates and the others targets. Equal ones rank by
    position, candidates as well as targets. It is a decision: no gradient.

    Args:
        features: (b, l, f); may be a slice of a larger tensor, it is read where it lies.
        protected: (b, p) int64, positions of rows that take no part, each once; n = l - p.
        r: pairs wanted, at most as many as there are candidates.
        distance: as in `rmeeto.ops.find_nearest`.
        nth: as there.
        reach: as there.
        impl: ``"auto"`` or the implementation that must be used; see `rmeeto.ops.select`.

    Raises:
        UnsupportedInput: shapes do not fit each other, fewer than two rows or r candidates, or ``impl`` cannot
            take the tensors.
        UnknownName: there is no such ``impl`` or distance.
        IndexError: a protected position lies outside.

    >>> closest_pairs(torch.rand(2, 197, 192), torch.tensor([[98], [98]]), 11).source.shape
    torch.Size([2, 11])
    """
    check_pairs("closest_pairs", features, protected, r, Matching(distance, nth, reach))
    span = features.shape[1] if reach is None else min(reach, features.shape[1])
    return Pairs(*torch.ops.rmeeto.closest_pairs(features.detach(), protected, r, distance, nth, span, impl))


def check_pairs(op_name: str, features: Tensor, protected: Tensor, r: int, matching: Matching) -> None:
    """Raise an error unless so many pairs can be found."""
    distance, nth, reach = matching
    if distance not in DISTANCES:
        raise UnknownName("distance", distance, DISTANCES)
    why = None
    if features.ndim != 3 or protected.ndim != 2 or features.shape[0] != protected.shape[0]:
        why = "features must be (b, l, f) and protected (b, p)"
    elif not features.is_floating_point() or protected.dtype != torch.int64 or protected.device != features.device:
        why = "features must be floating and protected int64, on one device"
    elif (patches := features.shape[1] - protected.shape[1]) < 2 or not 0 <= r <= patches - patches // 2:
        why = f"{patches} unprotected rows have {patches - patches // 2} candidates, and r is {r}"
    elif (reach is not None and reach < 1) or nth < 1:
        why = f"the nearest is nth=1 within reach=1, not nth={nth} within reach={reach}"
    if why is not None:
        raise misfit(op_name, {"features": features, "protected": protected}, why)


# The same construction as in `rmeeto.ops.scan`, without gradients.

torch.library.define(
    "rmeeto::closest_pairs",
    "(Tensor features, Tensor protected, SymInt r, str distance, int nth, SymInt reach, str impl) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
)


def _forward(
    features: Tensor, protected: Tensor, r: int, distance: str, nth: int, reach: int, impl: str
) -> tuple[Tensor, ...]:
    module = choose("closest_pairs", impl, {"features": features, "protected": protected})
    return module.closest_pairs(features, protected, r, distance, nth, reach)


def _fake(features: Tensor, protected: Tensor, r: int, *rest: Any) -> tuple[Tensor, ...]:
    batch, patches = features.shape[0], features.shape[1] - protected.shape[1]
    return tuple(protected.new_empty((batch, count)) for count in (r, r, patches - patches // 2, patches // 2))


register_decision("closest_pairs", _forward, _fake)
