"""Random baselines: what a method must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rmeeto.reduction.methods.moves import merged, pruned
from rmeeto.reduction.methods.partners import merging
from rmeeto.reduction.methods.scheduled import ScheduledReduction
from rmeeto.reduction.plan import Plan
from rmeeto.reduction.protocol import Step, Widths
from rmeeto.reduction.scores import ascending
from rmeeto.reduction.tokens import AttentionFeatures, Features, Tokens
from rmeeto.runtime.randomness import rand_by_image


@dataclass(frozen=True, kw_only=True, repr=False)
class RandomPrune(ScheduledReduction):
    """Drop r patches of each image at random, from torch's global generator; the others keep their order."""

    name: ClassVar[str] = "random-prune"

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """No arithmetic."""
        return 0.0

    def step(self, tokens: Tokens, features: Features | AttentionFeatures | None, step: Step) -> Tokens:
        """Drop."""
        return pruned(tokens, Plan.dropping(shuffled(tokens)[:, : step.r], tokens.length))


@dataclass(frozen=True, kw_only=True, repr=False)
class RandomMerge(ScheduledReduction):
    """Merge r patches of each image into as many others, both at random; means weighted by size, order kept."""

    name: ClassVar[str] = "random-merge"

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact operations of one step."""
        return merging(widths, step.r)

    def step(self, tokens: Tokens, features: Features | AttentionFeatures | None, step: Step) -> Tokens:
        """Merge."""
        drawn = shuffled(tokens)
        plan = Plan.joining(drawn[:, : step.r], drawn[:, step.r : 2 * step.r], tokens.length)
        return merged(tokens, plan, tokens.sizes())


def shuffled(tokens: Tokens) -> Tensor:
    """``(b, l)``: the positions of the patches in random order, then those of the protected tokens."""
    return ascending(rand_by_image(tokens.x.shape[:2], tokens.x.device), tokens.protected)
