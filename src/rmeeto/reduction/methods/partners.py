"""What tokens are compared by, their most similar partners, and the operations of finding and merging these."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from rmeeto.ops.nearest import find_nearest
from rmeeto.reduction.plan import take
from rmeeto.reduction.protocol import Widths
from rmeeto.reduction.tokens import AttentionFeatures, Features, Tokens

FeatureName = Literal["X", "B", "C", "delta", "Q", "K", "V"]


class ComparesFeatures:
    """A method that compares tokens by the features that its option ``features`` names."""

    features: FeatureName

    @property
    def needs(self) -> frozenset[str]:
        """What tokens are compared by."""
        return frozenset({self.features})


def matching_features(tokens: Tokens, features: Features | AttentionFeatures | None, name: FeatureName) -> Tensor:
    """What tokens are compared by: X, the last output, or a mean of what the mixer computed (Table 6).

    B, C and Δ of a Mamba are averaged over both directions, Q, K and V of an attention over its heads.
    """
    if name == "X":
        return tokens.x
    assert features is not None, "the first block never reduces, so some block has handed its features on"
    return features.mean(name)


def partners(features: Tensor, candidates: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Each candidate's cosine to its most similar target, and that target's position, both ``(b, n)``.

    features: ``(b, l, f)``. candidates, targets: ``(b, n)`` and ``(b, m)`` positions.
    """
    closest, index = find_nearest(take(features, candidates), take(features, targets))
    return closest, targets.gather(1, index)


def averaging(widths: Widths, name: str, patches: int) -> float:
    """Operations of a feature's mean over both directions."""
    return 2 * patches * widths.features[name] if name in widths.directional else 0


def comparing(width: int, candidates: int, targets: int) -> float:
    """Operations of normalising both groups and finding each candidate's partner."""
    return 3 * (candidates + targets) * width + candidates * targets * (2 * width + 1)


def merging(widths: Widths, r: int) -> float:
    """Operations of merging r tokens: difference, weight, add."""
    return 3 * r * widths.moved
