"""What all plain operations share: the precision of their arithmetic, and how gradients are handed back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def arithmetic(x: Tensor) -> torch.dtype:
    """The precision in which numbers that are stored as x is are computed."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def silu_slope(x: Tensor) -> Tensor:
    """The derivative of SiLU."""
    share = torch.sigmoid(x)
    return share * (1 + x * (1 - share))


def stored(gradients: Sequence[Tensor | None], operands: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """Return each gradient contiguous and in its operand's dtype."""
    lead = operands[0]
    assert lead is not None
    return tuple(
        lead.new_empty(0) if x is None or g is None else g.to(x.dtype).contiguous()
        for g, x in zip(gradients, operands, strict=True)
    )
