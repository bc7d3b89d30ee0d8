"""Hidden state alignment: pruning, after which the state still decays over the places of removed tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from rmeeto.reduction.elapsed import Gaps, Missing, Pair
from rmeeto.reduction.methods.importance import ImportanceReduction
from rmeeto.reduction.methods.moves import pruned
from rmeeto.reduction.plan import Plan
from rmeeto.reduction.protocol import Step, Widths
from rmeeto.reduction.scores import ascending
from rmeeto.reduction.tokens import AttentionFeatures, Features, Tokens


@dataclass(frozen=True, kw_only=True, repr=False)
class HiddenStateAlignment(ImportanceReduction):
    """Drop the least important tokens; the state decays over their places as if they were empty (ToP-ViM, 2024).

    The authors' Vim-S keeps 0.8 of the patches before blocks 5, 10 and 15: ``hsa:r=39+31+25,blocks=5:16:5``.

    alignment: ``decay`` as in the paper; ``none`` closes the gaps as their released program does.
    missing: which Δ an empty place has in later blocks: the block's ``mean``, that of its ``neighbour``, or the
        ``last`` that was computed there; see :class:`rmeeto.reduction.elapsed.Gaps`.
    """

    alignment: Literal["decay", "none"] = "decay"
    missing: Missing = "mean"

    name: ClassVar[str] = "hsa"

    @property
    def needs(self) -> frozenset[str]:
        """Gaps in time exist where there is a Δ."""
        return super().needs | (frozenset({"delta"}) if self.alignment == "decay" else frozenset())

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact operations of one step; the first one adds no gaps to gaps and needs a few fewer."""
        score = self.importance_operations(widths, patches)
        if self.alignment == "none":
            return score
        width = widths.features["delta"]
        per_place, softplus = (width, 4 * patches * width) if self.missing == "last" else (1, 0)
        return score + 2 * (softplus + 2 * patches * per_place)

    def timing_operations(self, widths: Widths, tokens: int) -> float:
        """Operations of estimating a gap's Δ, adding it, and weighting the input, in both directions."""
        per_channel = {"mean": 5, "neighbour": 4, "last": 3}[self.missing]
        return 2 * per_channel * tokens * widths.features["delta"] if self.alignment == "decay" else 0.0

    def step(self, tokens: Tokens, features: Features | AttentionFeatures | None, step: Step) -> Tokens:
        """Keep the most important tokens, and record the gaps of the others."""
        order = ascending(self.importance(tokens, features), tokens.protected)
        plan = Plan.dropping(order[:, : step.r], tokens.length)
        reduced = pruned(tokens, plan)
        if self.alignment == "none":
            return reduced
        assert isinstance(features, Features), "schedule() refuses networks without Δ"
        gaps = Gaps.left_by(plan, self._own_time(tokens, features), self.missing)
        return reduced.replace(timing=reduced.timing.joined(gaps) if isinstance(reduced.timing, Gaps) else gaps)

    def _own_time(self, tokens: Tokens, features: Features) -> Pair:
        """What a removed token adds to its gap: its last step sizes, or one place."""
        if self.missing == "last":
            return features.step_sizes()
        place = torch.ones_like(tokens.sizes())[..., None]
        return place, place
