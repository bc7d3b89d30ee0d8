"""The closest pairs of candidates and targets."""

from __future__ import annotations

from torch import Tensor

from rmeeto.ops.impl.reference.nearest import find_nearest
from rmeeto.ops.rows import patch_positions, ranked_pairs, take


def closest_pairs(
    features: Tensor, protected: Tensor, r: int, distance: str, nth: int, reach: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Split, search, rank; see `rmeeto.ops.closest_pairs` for the meaning and the shapes."""
    patches = patch_positions(protected, features.shape[1])
    candidates, targets = patches[:, 0::2], patches[:, 1::2]
    score, partner = find_nearest(take(features, candidates), take(features, targets), distance, nth, reach)
    source, target, ranked, targets = ranked_pairs(score, partner, candidates, targets, r)
    return source.contiguous(), target, ranked, targets.contiguous()
