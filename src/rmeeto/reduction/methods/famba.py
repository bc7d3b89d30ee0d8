"""Famba-V: ToMe's fusion on Vision Mamba, at chosen layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rmeeto.reduction.methods.pairwise import Order, TokenMerge
from rmeeto.reduction.plan import MergeOp


@dataclass(frozen=True, kw_only=True, repr=False)
class FambaV(TokenMerge):
    """:class:`TokenMerge` with plain means and without order (Shen et al. 2024).

    The paper compares where to fuse, when training from scratch: all layers (``famba:r=7``), every second one
    (``famba:r=14,blocks=even``), the lower or the upper ones (``famba:r=9,blocks=lower``, ``blocks=upper``). The class
    token is protected, as in every method.
    """

    blocks: str = "all"
    op: MergeOp = "mean"
    order: Order = "dropped"

    name: ClassVar[str] = "famba"
