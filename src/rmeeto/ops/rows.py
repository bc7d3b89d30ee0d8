"""Rows of a batch of sequences by their positions: the gather that everything else is written with."""

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
