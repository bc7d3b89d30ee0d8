"""Plan: one decision about tokens, as index tensors, and the ways to move values by it.

A plan says which tokens survive and in what order (``kept``), which leave (``source``) and which survivor
absorbs each (``target``). The same plan moves hidden values, the residual stream and sizes, can be composed
with later plans into a source map, and run backwards to bring values to the full grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from rmeeto.ops import lay_out, merge_rows
from rmeeto.ops.rows import flat_index as flat_index
from rmeeto.ops.rows import take as take

if TYPE_CHECKING:
    from jaxtyping import Int64

MergeOp = Literal["sum", "mean", "max", "min"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which of ``l`` tokens survive and where the others go.

    kept: ``(b, m)`` int64, input positions of the survivors in output order.
    source: ``(b, r)`` int64, input positions of the tokens that leave; ``m + r = l``.
    target: ``(b, r)`` int64, output position that absorbs each source, or None when they are dropped.
    """

    kept: Int64[Tensor, "b m"]
    source: Int64[Tensor, "b r"]
    target: Int64[Tensor, "b r"] | None

    @property
    def lengths(self) -> Tensor | None:
        """``(b,)`` tokens that each image has left; None, as here, if all have equally many."""
        return None

    @staticmethod
    def dropping(source: Tensor, length: int) -> Plan:
        """Drop the tokens at ``(b, r)`` positions of ``length``; the others keep their order."""
        kept, place = lay_out(source, None, length)
        return OrderedPlan(kept, source, None, place)

    @staticmethod
    def joining(source: Tensor, target: Tensor, length: int) -> Plan:
        """Let the tokens at ``(b, r)`` input positions be absorbed by survivors, also at input positions, in order."""
        kept, place = lay_out(source, target, length)
        return OrderedPlan(kept, source, place.gather(1, source), place)

    @property
    def length(self) -> int:
        """Tokens per image before."""
        return self.kept.shape[1] + self.source.shape[1]

    def assignment(self) -> Tensor:
        """``(b, l)`` int64: the output position of every input token, -1 where it is dropped."""
        places = torch.arange(self.kept.shape[1], device=self.kept.device).expand_as(self.kept)
        gone = self.target if self.target is not None else torch.full_like(self.source, -1)
        order = torch.cat([self.kept, self.source], dim=1)
        return torch.empty_like(order).scatter(1, order, torch.cat([places, gone], dim=1))

    def follow(self, positions: Tensor) -> Tensor:
        """The output positions of tokens at ``(b, k)`` input positions; -1 (dropped) stays -1."""
        return torch.where(positions < 0, positions, self.assignment().gather(1, positions.clamp(min=0)))

    def take(self, values: Tensor) -> Tensor:
        """The survivors' ``(b, l, …)`` values as they are, ``(b, m, …)``: what pruning does."""
        return take(values, self.kept)

    def merge(self, values: Tensor, share: Tensor, op: MergeOp = "sum") -> Tensor:
        """Move ``(b, l, …)`` values to ``(b, m, …)``; each target combines itself with its sources.

        share: ``(b, r)`` from :meth:`shares`. op: ``sum`` and ``mean`` are the mean of a group weighted by those
        shares; ``max`` and ``min`` are element-wise. A survivor that absorbs nothing keeps its value bit for bit.
        """
        if self.target is None or self.source.shape[1] == 0:
            return self.take(values)
        if op in ("sum", "mean"):
            merged = merge_rows(values.flatten(2), self.kept, self.source, self.target, share)
            return merged.reshape(*self.kept.shape, *values.shape[2:])
        kept = self.take(values)
        sources, rows = take(values, self.source).flatten(0, 1), flat_index(self.target, kept.shape[1])
        index = rows.reshape(-1, *[1] * (values.dim() - 2)).expand_as(sources)
        merged = kept.flatten(0, 1).scatter_reduce(0, index, sources, f"a{op}", include_self=True)
        return merged.reshape(kept.shape)

    def shares(self, size: Tensor) -> Tensor:
        """Each source's share of its group's total size, ``(b, r)``, from ``(b, l)`` sizes."""
        if self.target is None:
            return torch.zeros_like(self.source, dtype=size.dtype)
        return size.gather(1, self.source) / self.merge_sizes(size).gather(1, self.target)

    def merge_sizes(self, size: Tensor) -> Tensor:
        """``(b, l)`` sizes to ``(b, m)``: a target's size grows by what it absorbed; dropped sizes are lost."""
        kept = size.gather(1, self.kept)
        if self.target is None:
            return kept
        return kept.scatter_add(1, self.target, size.gather(1, self.source))

    def carry(self, values: Tensor, *, reverse: bool = False) -> Tensor:
        """Add the ``(b, l, …)`` values of each removed token to the next survivor in scan order, ``(b, m, …)`` sums.

        The scan goes from the first token to the last, or in ``reverse``. Values removed after its last survivor are
        lost. The plan must keep the order of the survivors.
        """
        ahead = torch.searchsorted(self.kept.contiguous(), self.source.contiguous())  # survivors before each source
        slot = ahead if reverse else ahead + 1  # one slot before the survivors and one behind, both cut off below
        sums = values.new_zeros(self.kept.shape[0], self.kept.shape[1] + 2, *values.shape[2:])
        leaving = take(values, self.source).flatten(0, 1)
        flat = sums.flatten(0, 1).index_add(0, flat_index(slot, sums.shape[1]), leaving)
        return flat.reshape(sums.shape)[:, 1:-1]

    def unmerge(self, values: Tensor) -> Tensor:
        """Bring ``(b, m, …)`` values back to ``(b, l, …)``: copies for merged tokens, zero for dropped ones."""
        place = self.assignment()
        full = take(values, place.clamp(min=0))
        if self.target is not None:
            return full
        return full * (place >= 0).reshape(*place.shape, *[1] * (values.dim() - 2))


@dataclass(frozen=True, slots=True)
class OrderedPlan(Plan):
    """A plan that keeps the order of the survivors, and stores each input token's output position.

    place: ``(b, l)`` int64, the output position of every input token, -1 where it is dropped.
    """

    place: Int64[Tensor, "b m+r"]

    def assignment(self) -> Tensor:
        """``(b, l)`` int64: the output position of every input token, -1 where it is dropped."""
        return self.place

    def merge_sizes(self, size: Tensor) -> Tensor:
        """``(b, l)`` sizes to ``(b, m)``: a target's size grows by what it absorbed; dropped sizes are lost."""
        if self.target is None:
            return size.gather(1, self.kept)
        return size.new_zeros(self.kept.shape).scatter_add(1, self.place, size)


def interleave(row: Tensor, items: Tensor, places: Tensor) -> Tensor:
    """Lay out ``row (b, k)`` with ``items (b, p)`` at the output places ``(b, p)``, giving ``(b, k + p)``."""
    others, _ = lay_out(places, None, row.shape[1] + places.shape[1])
    return torch.cat([row, items], dim=1).gather(1, torch.cat([others, places], dim=1).argsort(dim=1))
