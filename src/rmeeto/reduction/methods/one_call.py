"""Merging in one call of the kernels, for methods that merge in order and by size: alone, or inside a whole network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from rmeeto.ops import Neighbours, Pairing, merge_closest, merge_neighbours
from rmeeto.reduction.plan import OrderedPlan
from rmeeto.reduction.tokens import Tokens


def merged_in_one_call(tokens: Tokens, compared: Tensor, r: int, pairing: Pairing) -> Tokens | None:
    """The tokens after r of them have merged; None if one call cannot do it, as while gradients are recorded.

    compared: ``(b, l, f)``, what tokens are compared by.
    """
    if tokens.timing is not None or tokens.lengths is not None:
        return None
    given = (compared, tokens.x, tokens.residual, tokens.size, tokens.protected, r)
    if isinstance(pairing, Neighbours):
        merged = merge_neighbours(*given, **pairing._asdict())
    else:
        merged = merge_closest(*given, **pairing._asdict())
    if merged is None:
        return None
    x, residual, size, protected, *moves = merged
    return Tokens(x, residual, protected, size, plans=(*tokens.plans, OrderedPlan(*moves)))


def are_as_written(reduction: object, methods: Mapping[str, Callable[..., object]]) -> bool:
    """Whether a reduction still has these methods: none is overridden in a subclass, or replaced in the object."""
    kind, replaced = type(reduction), vars(reduction)
    return all(getattr(kind, name) is method and name not in replaced for name, method in methods.items())


def replaced_methods(reduction: object, methods: Mapping[str, Callable[..., object]]) -> list[str]:
    """A sentence if :func:`are_as_written` is false."""
    return [] if are_as_written(reduction, methods) else ["methods of the reduction have been replaced"]
