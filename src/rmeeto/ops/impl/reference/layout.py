"""Which rows stay, and where every row goes."""

from __future__ import annotations

import torch
from torch import Tensor


def lay_out(source: Tensor, target: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
    """Count those that stay; see `rmeeto.ops.lay_out` for the meaning and the shapes."""
    batch, r = source.shape
    stays = torch.ones(batch, length, dtype=torch.bool, device=source.device).scatter(1, source, False)
    place = stays.cumsum(1) - 1
    slots = torch.where(stays, place, length - r)  # sources share one slot past the end, cut off below
    index = torch.arange(length, device=source.device).expand(batch, -1)
    kept = index.new_zeros(batch, length - r + 1).scatter(1, slots, index)[:, :-1]
    gone = torch.full_like(source, -1) if target is None else place.gather(1, target)
    return kept.contiguous(), place.scatter(1, source, gone)
