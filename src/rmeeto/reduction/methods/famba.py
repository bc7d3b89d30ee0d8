"""Famba-V: ToMe's fusion on Vision Mamba, at chosen layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rmeeto.reduction.methods.pairwise import Order, TokenMerge
from rmeeto.reduction.plan import MergeOp


@dataclass(frozen=True, kw_only=True, repr=False)
class FambaV(TokenMerge):
    """:class:`TokenMerge` with plain means and without order (Shen et al. 2024).

    The paper compares where to fuse at about equal cost. On Vim-Ti: all layers, ``famba:r=7``; every second one,
    ``famba:r=14,blocks=even``; the lower ones, ``famba:r=9,blocks=1:5``; the upper ones, ``famba:r=9,blocks=18:``. It
    was meant for training from scratch. The class token is protected here as everywhere.
    """

    blocks: str = "all"
    op: MergeOp = "mean"
    order: Order = "dropped"

    name: ClassVar[str] = "famba"
