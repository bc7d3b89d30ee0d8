"""Operands of operations: what each must be (a dense tensor of floating-point numbers), and groups of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

DTYPES = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})
ROOM = 16  # states for which a stored row of B or C has room; more make it longer


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


class DirectionParameters(NamedTuple):
    """Parameters of one direction of a Mamba block."""

    conv_weight: Tensor  # (e, 1, width)
    conv_bias: Tensor  # (e,)
    A: Tensor  # (e, n)
    skip: Tensor  # (e,)
    delta_bias: Tensor  # (e,)
    x_proj: Tensor  # (rank + 2n, e)
    dt_proj: Tensor  # (e, rank)


class BlockParameters(NamedTuple):
    """Parameters of a Mamba block, or their gradients."""

    norm_weight: Tensor  # (d,)
    in_proj: Tensor  # (2e, d)
    out_proj: Tensor  # (d, e)
    forward: DirectionParameters
    backward: DirectionParameters

    @classmethod
    def of(cls, flat: Sequence[Tensor]) -> BlockParameters:
        """From tensors in the order of :meth:`flat`."""
        (norm_weight, in_proj, out_proj), sides, width = flat[:3], flat[3:], len(DirectionParameters._fields)
        forward, backward = DirectionParameters(*sides[:width]), DirectionParameters(*sides[width:])
        return cls(norm_weight, in_proj, out_proj, forward, backward)

    def flat(self) -> tuple[Tensor, ...]:
        """All tensors: those of the block, of the forward direction and of the backward direction."""
        return (*self[:3], *self.forward, *self.backward)

    def named(self) -> dict[str, Tensor]:
        """All tensors by name; names of the backward direction end in ``_b``."""
        return dict(zip(PARAMETER_NAMES, self.flat(), strict=True))


PARAMETER_NAMES = (
    *BlockParameters._fields[:3],
    *(f"{name}{side}" for side in ("", "_b") for name in DirectionParameters._fields),
)


class BlockKept(NamedTuple):
    """What the forward pass of a Mamba block keeps for its gradients; the rest is computed again.

    In pairs the forward direction comes first.
    """

    stream: Tensor  # (b, l, d), at least float32: the residual stream
    b_and_c: Tensor  # (2, b, l, 2, 16), at least float32: B and C, filled up with zeros to `ROOM` states
    dt: Tensor  # (2, b, l, rank): what Δ is projected from
    normed: Tensor  # (b, l, d)
    projected: Tensor  # (b, l, 2e): what the convolutions read, and the gate
    walked: Tensor  # (b, l, e): both scans' sum before the gate
