"""Operands of operations: what each must be (a dense tensor of floating-point numbers), and groups of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rmeeto.errors import UnsupportedInput

if TYPE_CHECKING:
    from jaxtyping import Float

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


def misfit(op_name: str, operands: Mapping[str, Any], why: str) -> UnsupportedInput:
    """The error for operands (by name, absent ones None) that do not fit each other."""
    given = ", ".join(f"{name} {_describe(x)}" for name, x in operands.items() if x is not None)
    return UnsupportedInput(op_name, given=given, why=why, fix="see its docstring for the shapes")


def _describe(x: object) -> str:
    return f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__


class ScanOperands(NamedTuple):
    """Operands of a scan, or their gradients: see `rmeeto.ops.selective_scan` for their meaning."""

    u: Float[Tensor, "b l e"]
    delta: Float[Tensor, "b l e"]
    A: Float[Tensor, "e n"]
    B: Float[Tensor, "b l n"]
    C: Float[Tensor, "b l n"]
    skip: Float[Tensor, " e"] | None = None
    gate: Float[Tensor, "b l e"] | None = None
    delta_bias: Float[Tensor, " e"] | None = None

    def present(self) -> dict[str, Tensor]:
        """Those that are there, by name."""
        return {name: x for name, x in zip(self._fields, self, strict=True) if x is not None}

    def tokens_in(self, dtype: torch.dtype) -> ScanOperands:
        """The same with all that is stored per token in this dtype."""
        u, delta, A, B, C, skip, gate, delta_bias = self
        if u.dtype == delta.dtype == B.dtype == C.dtype == dtype and (gate is None or gate.dtype == dtype):
            return self
        gate = None if gate is None else gate.to(dtype)
        return ScanOperands(u.to(dtype), delta.to(dtype), A, B.to(dtype), C.to(dtype), skip, gate, delta_bias)


class DirectionParameters(NamedTuple):
    """Parameters of one direction of a Mamba block."""

    conv_weight: Float[Tensor, "e 1 k"]
    conv_bias: Float[Tensor, " e"]
    A: Float[Tensor, "e n"]
    skip: Float[Tensor, " e"]
    delta_bias: Float[Tensor, " e"]
    x_proj: Float[Tensor, "rank+2*n e"]
    dt_proj: Float[Tensor, "e rank"]


class BlockParameters(NamedTuple):
    """Parameters of a Mamba block, or their gradients."""

    norm_weight: Float[Tensor, " d"]
    in_proj: Float[Tensor, "2*e d"]
    out_proj: Float[Tensor, "d e"]
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

    In pairs the forward direction comes first. The stream, B and C are at least float32.
    """

    stream: Float[Tensor, "b l d"]
    b_and_c: Float[Tensor, "2 b l 2 room"]  # B and C, filled up with zeros to `ROOM` states
    dt: Float[Tensor, "2 b l rank"]  # what Δ is projected from
    normed: Float[Tensor, "b l d"]
    projected: Float[Tensor, "b l 2*e"]  # what the convolutions read, and the gate
    walked: Float[Tensor, "b l e"]  # both scans' sum before the gate
