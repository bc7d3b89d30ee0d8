"""STM: only neighbours merge, and none beside the class token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rmeeto.ops import Neighbours
from rmeeto.reduction.choices import check_count
from rmeeto.reduction.match import patch_positions
from rmeeto.reduction.methods.moves import merged
from rmeeto.reduction.methods.one_call import are_as_written, merged_in_one_call, replaced_methods
from rmeeto.reduction.methods.partners import ComparesFeatures, FeatureName, averaging, matching_features, merging
from rmeeto.reduction.methods.scheduled import ScheduledReduction
from rmeeto.reduction.plan import Plan, take
from rmeeto.reduction.protocol import Schedule, Stack, Step, Widths
from rmeeto.reduction.scores import at_least_float32
from rmeeto.reduction.tokens import AttentionFeatures, Features, Tokens


@dataclass(frozen=True, kw_only=True, repr=False)
class STM(ComparesFeatures, ScheduledReduction):
    """Merge the most similar neighbours on both sides.

    Every second patch may join the patch before it or the one behind it, so neither scan direction is favoured; the
    r closest do, weighted by size. Time grows with l. (Only the abstract of STM could be read; the rest is our
    reading.)

    guard: patches on each side of the class token that take no part.
    features: compare tokens by them, with the cosine.
    """

    guard: int = 2
    features: FeatureName = "X"

    name: ClassVar[str] = "stm"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("guard", self.guard)

    def schedule(self, stack: Stack) -> Schedule:
        """Fewer tokens can be removed: guarded patches stay, and a patch beside them may have no neighbour left."""
        guarded = 2 * self.guard + 2 if self.guard and stack.protected else 0
        return super().schedule(replace(stack, protected=stack.protected + guarded))

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact operations of one step."""
        width = widths.features[self.features]
        compare = 3 * patches * width + (patches - 1) * 2 * width
        places = 2 * patches if self.guard else 0
        return averaging(widths, self.features, patches) + compare + places + merging(widths, step.r)

    def step(self, tokens: Tokens, features: Features | AttentionFeatures | None, step: Step) -> Tokens:
        """Merge neighbours, in one call where that is possible."""
        return self.at_once(tokens, features, step.r) or self.by_parts(tokens, features, step)

    def at_once(self, tokens: Tokens, features: Features | AttentionFeatures | None, r: int) -> Tokens | None:
        """What :meth:`by_parts` gives, but for rounding, in inference on a processor; None elsewhere."""
        matching = self.plain_matching()
        if matching is None:
            return None
        return merged_in_one_call(tokens, matching_features(tokens, features, self.features), r, matching)

    def plain_matching(self) -> Neighbours | None:
        """How pairs are found in one call; None if methods have been replaced."""
        return Neighbours(self.guard) if self.as_written() else None

    def beyond_plain_matching(self) -> list[str]:
        """What this asks for beyond merging neighbours in order by size; empty if nothing."""
        return replaced_methods(self, IN_ONE_CALL)

    def as_written(self) -> bool:
        """Whether the methods that one call stands in for are those of this class, not overridden nor replaced."""
        return are_as_written(self, IN_ONE_CALL)

    def by_parts(self, tokens: Tokens, features: Features | AttentionFeatures | None, step: Step) -> Tokens:
        """Merge neighbours by operations of PyTorch, with gradients, on every device and in every dtype."""
        patches = patch_positions(tokens.protected, tokens.length)
        closeness = neighbour_similarity(take(matching_features(tokens, features, self.features), patches))
        if self.guard and tokens.protected.shape[1]:
            near = beside(tokens.cls_index, patches, 2 * self.guard)
            closeness = closeness.masked_fill(near[:, :-1] | near[:, 1:], -torch.inf)
        # Patch 2k lies between pairs 2k - 1 and 2k; the first and perhaps the last have one neighbour only.
        before = F.pad(closeness[:, 1::2], (1, 0), value=-torch.inf)
        behind = F.pad(closeness[:, 0::2], (0, patches.shape[1] % 2), value=-torch.inf)
        best, side = torch.stack([before, behind], dim=-1).max(dim=-1)
        chosen = best.sort(dim=1, descending=True, stable=True).indices[:, : step.r]
        source = patches.gather(1, 2 * chosen)
        target = patches.gather(1, 2 * (chosen + side.gather(1, chosen)) - 1)
        return merged(tokens, Plan.joining(source, target, tokens.length), tokens.sizes())


# What a call that merges at once, or that computes a whole network, does not call.
IN_ONE_CALL = {name: getattr(STM, name) for name in ("step", "at_once", "by_parts")}


@torch.no_grad()
def neighbour_similarity(features: Tensor) -> Tensor:
    """Cosine of each of ``(b, n, f)`` with the next, ``(b, n - 1)``."""
    unit = F.normalize(at_least_float32(features), dim=-1)
    return (unit[:, :-1] * unit[:, 1:]).sum(-1)


def beside(place: Tensor, patches: Tensor, count: int) -> Tensor:
    """Which of ``(b, n)`` patch positions are the ``count`` nearest to ``place (b,)``; ``(b, n)`` bool."""
    nearest = (patches - place[:, None]).abs().sort(dim=1, stable=True).indices[:, :count]
    return torch.zeros_like(patches, dtype=torch.bool).scatter(1, nearest, True)
