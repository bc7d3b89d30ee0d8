"""ToMe: token merging for Vision Transformers, by the rules of its authors' program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rmeeto.ops.nearest import find_nearest
from rmeeto.ops.rows import ranked_pairs
from rmeeto.reduction.match import Match, matching_operations, patch_positions
from rmeeto.reduction.methods.moves import merged
from rmeeto.reduction.methods.pairwise import rearranged
from rmeeto.reduction.methods.partners import ComparesFeatures, FeatureName, matching_features
from rmeeto.reduction.methods.scheduled import ScheduledReduction
from rmeeto.reduction.plan import take
from rmeeto.reduction.protocol import Step, Widths
from rmeeto.reduction.tokens import AttentionFeatures, Features, Tokens


@dataclass(frozen=True, kw_only=True, repr=False)
class ToMe(ComparesFeatures, ScheduledReduction):
    """Token merging (Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023), in every block.

    It differs from :class:`TokenMerge` in two rules. Tokens alternate between candidates and targets over the whole
    sequence, so with a class token in front patches 1, 3, 5 … join patches 0, 2, 4 …. And the order is not kept: the
    remaining candidates come first (without any fixed token by falling similarity), then the targets. A merged token
    is the mean of its group weighted by size, and attention counts it by its size, as in every reduced Transformer.

    Class, distillation and register tokens are never merged. (The authors' program is older than register tokens and
    treats them as patches.) In other networks than Transformers the tokens
    alternate as if the protected ones stood in front.

    features: compare tokens by them, with the cosine; K is the mean of the keys over the heads.

    >>> ToMe(r=8)
    ToMe('tome:r=8')
    """

    features: FeatureName = "K"
    blocks: str = "all"

    name: ClassVar[str] = "tome"

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact operations of one step."""
        return matching_operations(widths, self.features, patches, step.r)

    def step(self, tokens: Tokens, features: Features | AttentionFeatures | None, step: Step) -> Tokens:
        """Merge the r candidates that are most similar to a target."""
        matched = alternating_match(matching_features(tokens, features, self.features), tokens.protected, step.r)
        plan = rearranged(tokens, matched, by_similarity=not tokens.protected.shape[1])
        return merged(tokens, plan, tokens.sizes())


@torch.no_grad()
def alternating_match(features: Tensor, protected: Tensor, r: int) -> Match:
    """Choose r pairs per image from ``(b, l, f)`` features; candidates and targets alternate, fixed tokens included.

    protected: ``(b, p)``, the fixed tokens, counted as if they stood in front: candidates are the patches at even
    places of such a sequence, targets those at odd places.
    """
    patches = patch_positions(protected, features.shape[1])
    first = protected.shape[1] % 2
    candidates, targets = patches[:, first::2], patches[:, 1 - first :: 2]
    score, partner = find_nearest(take(features, candidates), take(features, targets))
    return Match(*ranked_pairs(score, partner, candidates, targets, r))
