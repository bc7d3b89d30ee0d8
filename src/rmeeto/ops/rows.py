"""Rows of a batch of sequences and their positions: what everything that moves rows is written with."""

from __future__ import annotations

import torch
from torch import Tensor


def take(values: Tensor, index: Tensor) -> Tensor:
    """Rows ``values[i, index[i, j]]``: ``(b, l, …)`` and ``(b, m)`` give ``(b, m, …)``.

    Whole rows through one flat ``index_select``: several times faster on a CPU than ``gather`` with an
    expanded index, which looks the index up for every element.
    """
    flat = flat_index(index, values.shape[1])
    return values.flatten(0, 1).index_select(0, flat).reshape(*index.shape, *values.shape[2:])


def flat_index(index: Tensor, length: int) -> Tensor:
    """``(b, m)`` positions within each image as ``(b·m,)`` positions within the flattened batch."""
    offset = torch.arange(index.shape[0], device=index.device) * length
    return (index + offset[:, None]).flatten()


def patch_positions(protected: Tensor, length: int) -> Tensor:
    """``(b, l-p)``: the positions of all tokens but the ``(b, p)`` protected ones, ascending."""
    count = protected.shape[1]
    index = torch.arange(length - count, device=protected.device)
    # the patch before which the j-th protected token stands has j patches fewer in front of it than its position says
    before = protected.sort(dim=1).values - torch.arange(count, device=protected.device)
    return index + (index[None, :, None] >= before[:, None, :]).sum(-1)


def ranked_pairs(
    score: Tensor, partner: Tensor, candidates: Tensor, targets: Tensor, r: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The r candidates ``(b, n)`` of the highest score, their partners, all candidates in that order, and the targets.

    Everything but ``partner``, which numbers the targets ``(b, m)``, is a position.
    """
    order = score.sort(dim=1, descending=True, stable=True).indices
    ranked = candidates.gather(1, order)
    return ranked[:, :r], targets.gather(1, partner.gather(1, order[:, :r])), ranked, targets
