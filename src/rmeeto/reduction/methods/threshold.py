"""Threshold: only tokens that are similar enough leave, so every image loses its own number.

Images of one batch still run together. All keep as many slots as the image with most tokens left; the others end in
*empty slots*. Empty slots change no result:

* The forward scan reaches them after all tokens. The backward scan reaches them first, so a mixer sets their input to
  zero before the convolution and again before the scan; the state is then still zero at the last token.
* Attention ignores them, because their size is 0 and its logarithm -∞.
* Matching never chooses them: their features are zero, so their cosine to anything is 0, below every threshold.

So an image gets the same result alone and in any batch, but its batch takes the time of the image that loses least.
(The alternative is a pass for each number of tokens. It would share little work: after a few blocks nearly every
image has its own number.)
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rmeeto.errors import ConfigError, UnsupportedInput
from rmeeto.reduction.match import Match, match, matching_operations
from rmeeto.reduction.methods.moves import merged
from rmeeto.reduction.methods.partners import ComparesFeatures, FeatureName, matching_features
from rmeeto.reduction.methods.scheduled import ScheduledReduction
from rmeeto.reduction.plan import Plan, take
from rmeeto.reduction.protocol import Step, Widths
from rmeeto.reduction.ragged import RaggedPlan
from rmeeto.reduction.scores import at_least_float32
from rmeeto.reduction.tokens import AttentionFeatures, Features, Tokens


@dataclass(frozen=True, kw_only=True, repr=False)
class ThresholdReduction(ComparesFeatures, ScheduledReduction, ABC):
    """The pairs of :class:`TokenMerge` above a similarity; r and ratio are the most that an image may lose.

    The number of removed tokens depends on the image. A schedule holds the largest, so operations counted from it are
    a lower bound.

    threshold: the least similarity (cosine) of a pair, above 0; or -1 for none, so that every image loses as many as it
    may.
    features: compare tokens by them.
    window: look for partners at most this many patches away in the present sequence; None compares with all of them.

    Raises:
        ConfigError, UnknownName: impossible values, or a budget that no threshold can keep.
    """

    threshold: float = 0.9
    features: FeatureName = "X"
    window: int | None = None

    varies: ClassVar[bool] = True
    merges: ClassVar[bool]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.threshold > 0 or self.threshold <= -1):
            raise ConfigError(
                f"remove tokens above a similarity threshold={self.threshold}",
                why="a cosine of 0 is that of unrelated tokens, and of empty slots",
                fix="use one between 0 and 1, or -1 to remove equally many tokens from every image",
            )
        if self.window is not None and self.window < 1:
            raise ConfigError(f"match within window={self.window} tokens", why="the next token is window=1")
        if self.gflops is not None or self.fewer is not None:
            raise ConfigError(
                f"keep {self.name} within a budget of operations",
                why="an image without similar tokens keeps them all, at any cost",
                fix="use r or ratio, the most that an image may lose, and look at what rmeeto eval says was lost",
            )

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact operations of one step that removes the most it may, the cosines of the pairs included."""
        width = widths.features[self.features]
        moved = step.r if self.merges else 0
        return matching_operations(widths, self.features, patches, moved, self.window) + 6 * step.r * width

    def step(self, tokens: Tokens, features: Features | AttentionFeatures | None, step: Step) -> Tokens:
        """Remove from each image what is similar enough, at most ``step.r`` tokens."""
        metric = matching_features(tokens, features, self.features)
        if tokens.token_mask is not None:
            metric = metric * tokens.token_mask[..., None]
        matched = match(metric, tokens.protected, step.r, window=self.window)
        counts = (closeness(metric, matched) >= self.threshold).sum(1)
        plan = first_pairs(matched, counts, tokens, merging=self.merges)
        return tokens if plan is None else merged(tokens, plan, tokens.sizes())


@dataclass(frozen=True, kw_only=True, repr=False)
class SimilarMerge(ThresholdReduction):
    """Merge only pairs that are similar enough; means weighted by size, order kept.

    >>> SimilarMerge(r=20, threshold=0.8)
    SimilarMerge('similar-merge:r=20,threshold=0.8')
    """

    name: ClassVar[str] = "similar-merge"
    merges: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True, repr=False)
class SimilarPrune(ThresholdReduction):
    """Drop the tokens that :class:`SimilarMerge` would merge."""

    name: ClassVar[str] = "similar-prune"
    merges: ClassVar[bool] = False


@torch.no_grad()
def closeness(features: Tensor, matched: Match) -> Tensor:
    """Cosines of the pairs, ``(b, r)``."""
    source, target = (at_least_float32(take(features, place)) for place in (matched.source, matched.target))
    return F.cosine_similarity(source, target, dim=-1).clamp(-1, 1)  # rounding may leave the range


def first_pairs(matched: Match, counts: Tensor, tokens: Tokens, *, merging: bool) -> Plan | None:
    """The plan by which the first ``counts (b,)`` pairs of each image join, or just lose their sources.

    Returns None if no image loses a token, and a plan without empty slots if all images keep equally many and had no
    empty slots before. The numbers become shapes, so they are read from the device.
    """
    if not len(counts):
        return None
    left = tokens.counts() - counts
    if left.is_meta:
        raise UnsupportedInput(
            "reduce by a threshold on the meta device",
            given="tensors without values",
            why="how many tokens of an image are similar enough is decided by their values",
            fix="another method, or a model and images on a device with memory",
        )
    shortest, longest, most = torch.stack([left.min(), left.max(), counts.max()]).tolist()
    if most == 0:
        return None
    source, target = matched.source[:, :most], matched.target[:, :most]
    if tokens.token_mask is None and shortest == longest:
        return Plan.joining(source, target, tokens.length) if merging else Plan.dropping(source, tokens.length)
    mask = torch.ones_like(tokens.sizes(), dtype=torch.bool) if tokens.token_mask is None else tokens.token_mask
    return RaggedPlan.removing(
        source, target if merging else None, counts, mask, longest, lengths=None if shortest == longest else left
    )
