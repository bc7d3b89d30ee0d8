"""UTR: unimportant tokens are pruned or merged into similar important ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from rmeeto.errors import ConfigError
from rmeeto.reduction.methods.importance import ImportanceReduction
from rmeeto.reduction.methods.moves import moved
from rmeeto.reduction.methods.partners import comparing, merging, partners
from rmeeto.reduction.plan import Plan
from rmeeto.reduction.protocol import Step, Widths
from rmeeto.reduction.scores import ascending
from rmeeto.reduction.tokens import AttentionFeatures, Features, Tokens


@dataclass(frozen=True, kw_only=True, repr=False)
class UTR(ImportanceReduction):
    """Unified token reduction (Zhan et al. 2024, "Rethinking Token Reduction for State Space Models").

    The less important half of the tokens finds its most similar partners in the other half (cosine of X), and the r
    most similar pairs become one token each. In the hidden state a share of them is pruned and the others are
    averaged; in the residual stream all are averaged. The paper does not say which pairs are pruned; we prune the
    most similar ones, where it loses least.

    pruned: that share, 0.5 in the paper.
    """

    pruned: float = 0.5

    name: ClassVar[str] = "utr"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.pruned <= 1:
            raise ConfigError(f"prune a share of {self.pruned}", why="a share lies between 0 and 1")

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact operations of one step."""
        low = patches - patches // 2
        compare = comparing(widths.features["X"], low, patches - low)
        return self.importance_operations(widths, patches) + compare + merging(widths, step.r)

    def step(self, tokens: Tokens, features: Features | AttentionFeatures | None, step: Step) -> Tokens:
        """Prune some and merge the others."""
        order = ascending(self.importance(tokens, features), tokens.protected)
        patches = tokens.length - tokens.protected.shape[1]
        half = patches - patches // 2
        low, high = order[:, :half], order[:, half:patches]
        closeness, partner = partners(tokens.x, low, high)
        pairs = closeness.sort(dim=1, descending=True, stable=True).indices[:, : step.r]
        source = low.gather(1, pairs)
        plan = Plan.joining(source, partner.gather(1, pairs), tokens.length)
        weight = torch.ones_like(tokens.sizes())
        without_pruned = weight.scatter(1, source[:, : int(self.pruned * step.r)], 0)
        return moved(
            tokens,
            plan,
            partial(plan.merge, share=plan.shares(without_pruned)),
            partial(plan.merge, share=plan.shares(weight)),
        )
