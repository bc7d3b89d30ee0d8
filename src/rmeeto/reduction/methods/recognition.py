"""Token Recognition: EViT as it is used on Vision Mamba (the paper's Table 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rmeeto.ops import lay_out
from rmeeto.reduction.methods.importance import ImportanceReduction
from rmeeto.reduction.methods.moves import merged, pruned
from rmeeto.reduction.methods.partners import merging
from rmeeto.reduction.plan import Plan
from rmeeto.reduction.protocol import Step, Widths
from rmeeto.reduction.scores import ascending
from rmeeto.reduction.tokens import AttentionFeatures, Features, Tokens


@dataclass(frozen=True, kw_only=True, repr=False)
class TokenRecognition(ImportanceReduction):
    """Drop the least important tokens and close the gaps (EViT, Liang et al. 2022, on Vision Mamba).

    EViT keeps what the class token attends to. A Mamba has no attention, so importance is the activity of the scan's
    output, as in later work on Vision Mamba; the order of what is kept does not change.

    fused: fuse what is dropped into one token, its mean weighted by importance, instead of losing it. It stands at
        the dropped token nearest to their mean place (weighted alike), and one token more makes room for it.

    >>> TokenRecognition(r=11, fused=True)
    TokenRecognition('evit:r=11,fused=True')
    """

    fused: bool = False

    name: ClassVar[str] = "evit"

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact operations of one step."""
        place = 5 * (step.r + 1) + 1 if self.fused else 0  # weighted mean of the places, distances to it
        return self.importance_operations(widths, patches) + (merging(widths, step.r) + place if self.fused else 0)

    def step(self, tokens: Tokens, features: Features | AttentionFeatures | None, step: Step) -> Tokens:
        """Keep the most important tokens."""
        score = self.importance(tokens, features)
        order = ascending(score, tokens.protected)
        if not self.fused:
            return pruned(tokens, Plan.dropping(order[:, : step.r], tokens.length))
        weight = score.clamp(min=1e-12)  # tokens without any activity share alike
        source, target = seat(order[:, : step.r + 1], weight)
        return merged(tokens, Plan.joining(source, target, tokens.length), weight)


def seat(leaving: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``(b, r + 1)`` positions, all but the one nearest to their weighted mean, and that one for each of them.

    Two times ``(b, r)``. weight: ``(b, l)``.
    """
    shares = weight.gather(1, leaving)
    middle = (shares * leaving).sum(1, keepdim=True) / shares.sum(1, keepdim=True)
    nearest = (leaving - middle).abs().argmin(dim=1, keepdim=True)
    others, _ = lay_out(nearest, None, leaving.shape[1])
    return leaving.gather(1, others), leaving.gather(1, nearest).expand(-1, leaving.shape[1] - 1)
