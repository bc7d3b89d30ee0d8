"""MTR: tokens with a small Δ are absorbed by similar tokens with a larger Δ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from rmeeto.errors import ConfigError
from rmeeto.reduction.methods.moves import merged
from rmeeto.reduction.methods.partners import (
    ComparesFeatures,
    FeatureName,
    averaging,
    comparing,
    matching_features,
    merging,
    partners,
)
from rmeeto.reduction.methods.scheduled import ScheduledReduction
from rmeeto.reduction.plan import Plan
from rmeeto.reduction.protocol import Step, Widths
from rmeeto.reduction.scores import ascending, mean_step
from rmeeto.reduction.tokens import AttentionFeatures, Features, Tokens


@dataclass(frozen=True, kw_only=True, repr=False)
class MTR(ComparesFeatures, ScheduledReduction):
    """Training-free token reduction for Vision Mamba by Δ.

    Tokens are ranked by the mean Δ of both directions: the r smallest are sources, the next ones are targets, and the
    rest stays as it is. Every source joins its most similar target; a target and its sources are averaged without
    weights.

    targets: how many, in multiples of r (the published proportions are not known; as many of each is our reading).
    features: compare tokens by them, with the cosine.
    """

    targets: float = 1.0
    features: FeatureName = "X"

    name: ClassVar[str] = "mtr"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.targets < math.inf:
            raise ConfigError(f"merge into targets={self.targets} times r tokens", why="sources need some target")

    @property
    def needs(self) -> frozenset[str]:
        """Δ ranks the tokens, and the features compare them."""
        return super().needs | {"delta"}

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact operations of one step."""
        ranked = patches * widths.features["delta"] * (2 * 4 + 2)  # bias and softplus of both; sum, mean
        compare = comparing(widths.features[self.features], step.r, self._target_count(patches, step.r))
        return ranked + averaging(widths, self.features, patches) + compare + merging(widths, step.r)

    def step(self, tokens: Tokens, features: Features | AttentionFeatures | None, step: Step) -> Tokens:
        """Merge sources into targets."""
        assert isinstance(features, Features), "schedule() refuses networks without Δ"
        order = ascending(mean_step(features), tokens.protected)
        patches = tokens.length - tokens.protected.shape[1]
        source, targets = order[:, : step.r], order[:, step.r : step.r + self._target_count(patches, step.r)]
        _, target = partners(matching_features(tokens, features, self.features), source, targets)
        return merged(tokens, Plan.joining(source, target, tokens.length), torch.ones_like(tokens.sizes()))

    def _target_count(self, patches: int, r: int) -> int:
        return max(1, min(round(self.targets * r), patches - r))
