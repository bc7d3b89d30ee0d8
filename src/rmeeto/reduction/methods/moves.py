"""Moving every field of the tokens by one plan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from rmeeto.reduction.plan import MergeOp, Plan
from rmeeto.reduction.tokens import Tokens

Move = Callable[[Tensor], Tensor]


def pruned(tokens: Tokens, plan: Plan) -> Tokens:
    """Keep the survivors as they are."""
    return moved(tokens, plan, plan.take)


def merged(tokens: Tokens, plan: Plan, weight: Tensor, op: MergeOp = "sum") -> Tokens:
    """Merge hidden values and residual alike: means weighted by ``(b, l)``, or element-wise extremes."""
    return moved(tokens, plan, partial(plan.merge, share=plan.shares(weight), op=op))


def moved(tokens: Tokens, plan: Plan, move: Move, move_residual: Move | None = None) -> Tokens:
    """Move the values by ``move``; protected positions, sizes, timing, lengths and source map follow from the plan.

    move: ``(b, l, d)`` to ``(b, m, d)``. move_residual: of the residual stream, if it moves otherwise.
    """
    untouched = plan.target is None and tokens.size is None and plan.lengths is None
    return Tokens(
        x=move(tokens.x),
        residual=None if tokens.residual is None else (move_residual or move)(tokens.residual),
        protected=plan.follow(tokens.protected),
        size=None if untouched else plan.merge_sizes(tokens.sizes()),
        timing=None if tokens.timing is None else tokens.timing.moved(plan),
        lengths=plan.lengths,
        plans=(*tokens.plans, plan),
    )
