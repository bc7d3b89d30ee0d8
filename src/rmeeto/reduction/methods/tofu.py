"""ToFu: prune in early blocks, which are far from linear; merge without shrinking in late blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from rmeeto.errors import ConfigError
from rmeeto.ops.nearest import Distance
from rmeeto.reduction.match import match, matching_operations
from rmeeto.reduction.methods.moves import moved, pruned
from rmeeto.reduction.methods.partners import ComparesFeatures, FeatureName, matching_features
from rmeeto.reduction.methods.scheduled import ScheduledReduction
from rmeeto.reduction.plan import Plan
from rmeeto.reduction.protocol import Step, Widths
from rmeeto.reduction.tokens import AttentionFeatures, Features, Tokens


@dataclass(frozen=True, kw_only=True, repr=False)
class ToFu(ComparesFeatures, ScheduledReduction):
    """Token fusion (Kim et al. 2024): the pairs of :class:`TokenMerge`, combined by depth.

    Early blocks drop the sources. Late blocks average a target and its sources and scale the average to the largest
    of their norms (MLERP, as others have re-implemented it), so that merging does not shrink.

    until: the share of the depth that prunes.
    features, distance: compare tokens by them.
    """

    until: float = 0.5
    features: FeatureName = "X"
    distance: Distance = "cosine"

    name: ClassVar[str] = "tofu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.until <= 1:
            raise ConfigError(f"prune until={self.until} of the depth", why="a share lies between 0 and 1")

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact operations of one step."""
        compare = matching_operations(widths, self.features, patches, 0)
        if self._prunes(step):
            return compare
        tokens = patches - step.r
        norms = 2 * (patches + tokens) * widths.moved
        return compare + 3 * step.r * widths.moved + norms + tokens * widths.moved

    def step(self, tokens: Tokens, features: Features | AttentionFeatures | None, step: Step) -> Tokens:
        """Prune or merge."""
        metric = matching_features(tokens, features, self.features)
        matched = match(metric, tokens.protected, step.r, distance=self.distance)
        if self._prunes(step):
            return pruned(tokens, Plan.dropping(matched.source, tokens.length))
        plan = Plan.joining(matched.source, matched.target, tokens.length)
        share = plan.shares(torch.ones_like(tokens.sizes()))
        return moved(tokens, plan, partial(merge_keeping_norm, plan, share=share))

    def _prunes(self, step: Step) -> bool:
        return step.block < self.until * step.depth


def merge_keeping_norm(plan: Plan, values: Tensor, *, share: Tensor) -> Tensor:
    """Averages ``(b, m, d)`` of groups of ``(b, l, d)``, each as long as the longest of its group."""
    average = plan.merge(values, share)
    longest = plan.merge(norms(values), share, "max")
    return average * (longest / norms(average).clamp(min=1e-12))


def norms(values: Tensor) -> Tensor:
    """Lengths of ``(b, l, d)`` vectors, ``(b, l, 1)``."""
    lengths: Tensor = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    return lengths
