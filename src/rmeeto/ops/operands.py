"""What every operand of an operation must be: a dense tensor of floating-point numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

DTYPES = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})


def unfit(operands: Mapping[str, Any]) -> str | None:
    """Why one of the operands (by name, absent ones None) is none; None if all are."""
    for name, x in operands.items():
        if x is None:
            continue
        if not isinstance(x, Tensor):
            return f"{name} must be a tensor, it is a {type(x).__name__}"
        if x.layout is not torch.strided:
            return f"{name} must be dense, it is {str(x.layout).removeprefix('torch.')}"
        if x.dtype not in DTYPES:
            return f"{name} must be floating (float32, float64, float16 or bfloat16), it is {x.dtype}"
    return None


def shapes(operands: Mapping[str, Any]) -> str:
    """The operands that are there, with their shapes, for a message."""
    return ", ".join(
        f"{name} {tuple(x.shape)}" if isinstance(x, Tensor) else f"{name} {type(x).__name__}"
        for name, x in operands.items()
        if x is not None
    )
