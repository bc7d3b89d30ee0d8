"""The operations of this package in ONNX: one function for each of `rmeeto.ops`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rmeeto.exporting.lowering import match, rows, scan
from rmeeto.exporting.lowering.graph import Operand, Value
from rmeeto.exporting.lowering.layers import normalised
from rmeeto.exporting.lowering.table import Call, translates
from rmeeto.ops.operands import ScanOperands


@translates("rmeeto.add_norm.default")
def add_norm(call: Call, x: Any, residual: Any, weight: Any, eps: float, *_: Any) -> tuple[Value, Value]:
    """Join the residual stream and normalise."""
    stream = x if residual is None else call.graph.node("Add", residual, x, name="residual")
    return normalised(call, stream, weight, eps), stream


@translates("rmeeto.causal_conv.default")
def causal_conv(call: Call, x: Any, weight: Any, bias: Any, silu: bool, reverse: bool, *_: Any) -> Value:
    """A direction's convolution."""
    return scan.causal_conv(call.graph, x, weight, bias, activate=silu, reverse=reverse)


@translates("rmeeto.bidirectional_scan.default")
def bidirectional_scan(call: Call, *given: Any) -> Any:
    """Both directions of a block."""
    u, delta, A, B, C, skip, gate, bias, u_b, delta_b, A_b, B_b, C_b, skip_b, bias_b, _ = given
    forward = ScanOperands(u, delta, A, B, C, delta_bias=bias)
    backward = ScanOperands(u_b, delta_b, A_b, B_b, C_b, delta_bias=bias_b)
    ahead, behind = scan.scan(call.graph, [(forward, False), (backward, True)], state_shape(call, A), softplus=True)
    y = call.graph.node("Add", ahead, behind)
    skips = [(by, of) for by, of in ((skip, u), (skip_b, u_b)) if by is not None]
    return scan.gated(call.graph, y, skips, gate)


def state_shape(call: Call, A: torch.Tensor) -> tuple[int | None, int, int]:
    """``(b, n, e)`` of a scan's state; None if only the runtime knows the number of images."""
    images, (channels, states) = call.given(0).shape[0], A.shape
    return images if isinstance(images, int) else None, states, channels


@translates("rmeeto.selective_scan.default")
def selective_scan(
    call: Call,
    u: Any,
    delta: Any,
    A: Any,
    B: Any,
    C: Any,
    skip: Any,
    gate: Any,
    bias: Any,
    softplus: bool,
    reverse: bool,
    *_: Any,
) -> Any:
    """One direction alone."""
    operands = ScanOperands(u, delta, A, B, C, delta_bias=bias)
    (y,) = scan.scan(call.graph, [(operands, reverse)], state_shape(call, A), softplus=softplus)
    return scan.gated(call.graph, y, [] if skip is None else [(skip, u)], gate)


@translates("rmeeto.closest_pairs.default")
def closest_pairs(
    call: Call, features: Any, protected: Any, r: int, distance: str, nth: int, reach: int, *_: Any
) -> tuple[Operand, ...]:
    """The r candidates that are closest to a target."""
    length, protected_count = call.given(0).shape[1], call.given(1).shape[1]
    return match.closest_pairs(
        *(call.graph, features, protected, r, distance, nth, reach), length=length, protected_count=protected_count
    )


@translates("rmeeto.find_nearest.default")
def find_nearest(call: Call, a: Any, b: Any, distance: str, nth: int, reach: int, *_: Any) -> tuple[Value, Value]:
    """Each row's nth closest of another group."""
    count, columns = call.given(0).shape[1], call.given(1).shape[1]
    low, high = (np.arange(count, dtype=np.int64) + side for side in (-reach, reach))
    seen = low.clip(0, columns)[None], high.clip(0, columns)[None]
    return match.nearest(call.graph, a, b, seen, distance, nth, columns=columns)


@translates("rmeeto.find_nearest_seen.default")
def find_nearest_seen(
    call: Call, a: Any, b: Any, low: Any, high: Any, distance: str, nth: int, *_: Any
) -> tuple[Value, Value]:
    """Each row's nth closest of those that it sees."""
    columns = call.given(1).shape[1]
    ends = torch.tensor(0), torch.tensor(columns)
    seen = [call.graph.node("Min", call.graph.node("Max", bound, ends[0]), ends[1]) for bound in (low, high)]
    return match.nearest(call.graph, a, b, (seen[0], seen[1]), distance, nth, columns=columns)


@translates("rmeeto.lay_out.default")
def lay_out(call: Call, source: Any, target: Any, length: int, *_: Any) -> tuple[Operand, Operand]:
    """Close the gaps."""
    return match.lay_out(call.graph, source, target, length, call.given(0).shape[1])


@translates("rmeeto.merge_rows.default")
def merge_rows(call: Call, values: Any, kept: Any, source: Any, target: Any, share: Any, *_: Any) -> Value:
    """Merge rows into others."""
    left = call.given(1).shape[1]
    if call.given(2).shape[1] == 0:
        return rows.take(call.graph, values, kept)
    return match.merge_rows(call.graph, values, kept, source, target, share, left=left)
