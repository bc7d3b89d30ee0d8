"""Partners: the most similar target of each candidate, and the operations of finding and merging them."""

from __future__ import annotations

from torch import Tensor

from rmeeto.ops.nearest import find_nearest
from rmeeto.reduction.plan import take
from rmeeto.reduction.protocol import Widths


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
