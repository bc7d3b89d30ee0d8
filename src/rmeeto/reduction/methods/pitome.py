"""PiToMe: tokens in crowds merge, lonely ones are protected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rmeeto.errors import ConfigError
from rmeeto.reduction.match import patch_positions
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
from rmeeto.reduction.plan import Plan, take
from rmeeto.reduction.protocol import Step, Widths
from rmeeto.reduction.scores import energy
from rmeeto.reduction.tokens import AttentionFeatures, Features, Tokens


@dataclass(frozen=True, kw_only=True, repr=False)
class PiToMe(ComparesFeatures, ScheduledReduction):
    """Protect informative tokens merging (Tran et al. 2024), with order kept for Mamba.

    A token's energy is the mean of ELU(cosine - m) with all others, where the margin m falls linearly with depth. In
    the second half of the blocks the 2r tokens of highest energy alternate as sources and targets, in that order, and
    every source joins its most similar target. In the first half all tokens alternate, and the r closest pairs join.
    Means are weighted by size. Comparing all with all costs four times as much as :class:`TokenMerge`.

    margin: m before the first block.
    features: compare tokens by them; the paper's are the keys of an attention (``K``).
    """

    margin: float = 0.75
    features: FeatureName = "X"

    name: ClassVar[str] = "pitome"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.margin <= 1:
            raise ConfigError(f"compare cosines with margin={self.margin}", why="a cosine lies between -1 and 1")

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact operations of one step."""
        width = widths.features[self.features]
        crowds = 3 * patches * width + patches**2 * (2 * width + 4)  # dot, margin, exp, minus one, sum
        mergeable = self._mergeable(patches, step)
        pairs = comparing(width, mergeable - mergeable // 2, mergeable // 2)
        return averaging(widths, self.features, patches) + crowds + pairs + merging(widths, step.r)

    def step(self, tokens: Tokens, features: Features | AttentionFeatures | None, step: Step) -> Tokens:
        """Merge within crowds."""
        metric = matching_features(tokens, features, self.features)
        patches = patch_positions(tokens.protected, tokens.length)
        crowd = energy(take(metric, patches), self.margin * (1 - step.block / step.depth))
        by_energy = crowd.sort(dim=1, descending=True, stable=True).indices
        mergeable = patches.gather(1, by_energy[:, : self._mergeable(patches.shape[1], step)])
        candidates, targets = mergeable[:, 0::2], mergeable[:, 1::2]
        closeness, partner = partners(metric, candidates, targets)
        pairs = closeness.sort(dim=1, descending=True, stable=True).indices[:, : step.r]
        plan = Plan.joining(candidates.gather(1, pairs), partner.gather(1, pairs), tokens.length)
        return merged(tokens, plan, tokens.sizes())

    @staticmethod
    def _mergeable(patches: int, step: Step) -> int:
        """Tokens that may merge: all of them in the first half of the blocks, 2r of them in the second half."""
        return patches if 2 * step.block < step.depth else 2 * step.r
