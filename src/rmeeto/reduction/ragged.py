"""Ragged: the plan of a batch whose images lose different numbers of tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rmeeto.reduction.plan import MergeOp, Plan, flat_index, take


@dataclass(frozen=True, slots=True)
class RaggedPlan(Plan):
    """A plan by which every image loses its own number of tokens.

    All images get as many slots as the longest has tokens left. The other images end in empty slots, which may hold any
    value: no position leads there, and their size is 0.

    kept: ``(b, m)``: first an image's survivors, in order, then positions that are not read.
    source, target: ``(b, r)``; if an image has fewer pairs, its first survivor joins itself, which changes nothing.
    place: ``(b, l)`` int64: the output position of every input token, -1 where it is dropped or the slot was empty.
    lengths: ``(b,)`` int64, how many tokens each image has left; None if all have equally many, so that no slot
        is empty.
    """

    place: Tensor
    lengths: Tensor | None

    @classmethod
    def removing(
        cls, source: Tensor, target: Tensor | None, counts: Tensor, mask: Tensor, longest: int, lengths: Tensor | None
    ) -> RaggedPlan:
        """Let the first ``counts (b,)`` of the tokens at ``(b, r)`` positions leave each image.

        target: ``(b, r)`` input positions of the survivors that absorb them; None drops them. mask: ``(b, l)`` bool,
        the slots that hold a token. longest: how many tokens the image that keeps most has left.
        """
        goes = torch.arange(source.shape[1], device=source.device) < counts[:, None]
        stays = mask.scatter(1, source, mask.gather(1, source) & ~goes)
        kept = (~stays).int().sort(dim=1, stable=True).indices[:, :longest]
        place = torch.where(stays, stays.cumsum(1) - 1, -1)
        if target is None:
            return cls(kept, source, None, place, lengths)
        source = torch.where(goes, source, kept[:, :1])
        target = torch.where(goes, place.gather(1, target), 0)
        return cls(kept, source, target, place.scatter(1, source, target), lengths)

    @property
    def length(self) -> int:
        """Slots per image before."""
        return self.place.shape[1]

    def assignment(self) -> Tensor:
        """``(b, l)`` int64: the output position of every input token, -1 if it is dropped or the slot was empty."""
        return self.place

    def merge(self, values: Tensor, share: Tensor, op: MergeOp = "sum") -> Tensor:
        """Same result as :meth:`Plan.merge`, without the kernel.

        The kernel assumes that every row either stays or leaves, and an empty slot does neither.
        """
        if self.target is None or op in ("max", "min"):
            return Plan.merge(self, values, share, op)
        kept, rows = self.take(values), flat_index(self.target, self.kept.shape[1])
        flat = kept.flatten(0, 1)
        change = take(values, self.source).flatten(0, 1) - flat.index_select(0, rows)
        change = change * share.reshape(-1, *[1] * (values.dim() - 2))
        return flat.index_add(0, rows, change.to(values.dtype)).reshape(kept.shape)

    def merge_sizes(self, size: Tensor) -> Tensor:
        """``(b, l)`` sizes to ``(b, m)``: what each survivor stands for, 0 in empty slots."""
        belongs = self.place >= 0
        empty = size.new_zeros(self.kept.shape)
        return empty.scatter_add(1, self.place.clamp(min=0), torch.where(belongs, size, 0))
