"""How many operations ours are, for `torch.utils.flop_counter.FlopCounterMode`.

The convention is PyTorch's for products, where a multiplication and an addition are two, and that of the ``exact``
convention of `rmeeto.flops` for everything inside our operations: every addition, multiplication, exponential and
division is one. PyTorch counts products, convolutions and attention alone, so what models leave to its own element-wise
operations (position tables, the final norm, the halving of a sum) is in `rmeeto.flops` and not in its counter. The
counter also hooks on all modules, for which a model runs its convolutions as PyTorch's layers: their SiLU is left out.

Gradients are counted by the equations of `rmeeto.ops.impl.reference`. Shapes come without values: every distance counts
as a cosine does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SIGMOID = 4  # negate, exp, add, divide
SILU = SIGMOID  # divide the input instead of 1
SILU_SLOPE = SIGMOID + 4
SOFTPLUS = 3  # exp, add, log

Shape = torch.Size
Optional = torch.Size | None  # an operand that may be absent
Formula = Callable[..., int]


def register() -> None:
    """Tell PyTorch's counter, which is slow to import: call this once it is imported."""
    from torch.utils.flop_counter import register_flop_formula

    for name, formula in FORMULAS.items():
        operation = getattr(torch.ops.rmeeto, name)
        register_flop_formula(operation, get_raw=formula is find_nearest_seen)(_by_name(operation, formula))


def _by_name(operation: Any, formula: Formula) -> Formula:
    """Call a formula with an operation's operands by the names in its schema."""
    names = [argument.name for argument in operation.default._schema.arguments]

    def count(*operands: Any, **more: Any) -> int:
        return formula(**dict(zip(names, operands, strict=False)), **more)

    return count


# Formulas take shapes, and name only the operands that they read.


def selective_scan(
    *, u: Shape, A: Shape, skip: Optional, gate: Optional, delta_bias: Optional, delta_softplus: bool, **rest: Any
) -> int:
    """Per state: Δ·A, exp, B·Δu, h·Ā + that (2), C·h summed (2). Per channel: Δu and what is asked for."""
    step = (delta_bias is not None) + SOFTPLUS * delta_softplus
    around = 2 * (skip is not None) + (SILU + 1) * (gate is not None)
    return u.numel() * (7 * A[1] + 1 + step + around)


def selective_scan_backward(
    *, u: Shape, A: Shape, skip: Optional, gate: Optional, delta_bias: Optional, delta_softplus: bool, **rest: Any
) -> int:
    """Per state: the forward walk without C (5), dh (2), what is passed on (1), w (1), six sums of products (12)."""
    per_channel = 1 + 1 + 2  # Δu, du, dΔ
    per_channel += 2 * (delta_bias is not None) + (SOFTPLUS + SIGMOID + 1) * delta_softplus
    per_channel += 6 * (skip is not None)  # in y, in du, and its own
    per_channel += (SILU + 1 + SILU_SLOPE + 2) * (gate is not None)
    return u.numel() * (21 * A[1] + per_channel)


def bidirectional_scan(*, u: Shape, **rest: Any) -> int:
    """Two scans, each gated, and their sum."""
    return 2 * selective_scan(u=u, delta_softplus=True, **rest) + u.numel()


def bidirectional_scan_backward(*, u: Shape, **rest: Any) -> int:
    """Those of two scans, and the sum of the gate's."""
    return 2 * selective_scan_backward(u=u, delta_softplus=True, **rest) + u.numel()


def causal_conv(*, x: Shape, weight: Shape, bias: Optional, silu: bool, **rest: Any) -> int:
    """A product for each tap, their sum, the bias."""
    return x.numel() * (2 * weight[2] - (bias is None) + SILU * silu)


def causal_conv_backward(*, x: Shape, weight: Shape, bias: Optional, silu: bool, **rest: Any) -> int:
    """Two gradients of products; before SiLU's slope, the convolution once more."""
    once_more = (2 * weight[2] - (bias is None) + SILU_SLOPE + 1) * silu
    return x.numel() * (4 * weight[2] + (bias is not None) + once_more)


def add_norm(*, x: Shape, **rest: Any) -> int:
    """Join, square, sum, scale, weigh; `rmeeto.flops` counts a join before the first block, too."""
    return 5 * x.numel()


def add_norm_backward(*, grad: Shape, **rest: Any) -> int:
    """The scale (2), what comes in weighed (1), its part along the stream (2), the sum (4), the weight's (3)."""
    return 12 * grad.numel()


def mamba_block(
    *, x: Shape, conv_weight: Shape, conv_bias: Shape, A: Shape, skip: Shape, delta_bias: Shape, **rest: Any
) -> int:
    """Its parts, and the scale."""
    u = Shape((*x[:2], A[0]))
    convolutions = 2 * causal_conv(x=u, weight=conv_weight, bias=conv_bias, silu=True)
    scans = bidirectional_scan(u=u, A=A, skip=skip, gate=u, delta_bias=delta_bias)
    return add_norm(x=x) + _block_products(x, **rest) + convolutions + scans + x.numel()


def mamba_block_backward(
    *, grad: Shape, walked: Shape, conv_weight: Shape, conv_bias: Shape, dt_proj: Shape, **rest: Any
) -> int:
    """Those of its parts, every product's being two, with convolutions and Δ once more; the two inputs' sum."""
    taps: dict[str, Any] = {"x": walked, "weight": conv_weight, "bias": conv_bias, "silu": True}
    products = 2 * _block_products(grad, dt_proj=dt_proj, **rest)
    steps = 2 * 2 * grad[0] * grad[1] * dt_proj.numel()
    once_more = 2 * causal_conv(**taps) + steps
    convolutions = 2 * causal_conv_backward(**taps)
    scans = bidirectional_scan_backward(u=walked, gate=walked, **rest)
    sums = grad.numel() + 2 * walked.numel()
    return add_norm_backward(grad=grad) + products + once_more + convolutions + scans + sums


def _block_products(x: Shape, *, in_proj: Shape, out_proj: Shape, x_proj: Shape, dt_proj: Shape, **rest: Any) -> int:
    return 2 * x[0] * x[1] * (in_proj.numel() + out_proj.numel() + 2 * (x_proj.numel() + dt_proj.numel()))


def merge_rows(*, values: Shape, source: Shape, **rest: Any) -> int:
    """Difference, weight, add."""
    return 3 * source.numel() * values[2]


def merge_rows_backward(*, grad: Shape, kept: Shape, source: Shape, **rest: Any) -> int:
    """Every row's share."""
    return (kept.numel() + source.numel()) * grad[2]


def find_nearest(*, a: Shape, b: Shape, reach: int, **rest: Any) -> int:
    """Normalise all rows, compare those within reach."""
    return _compare(a, b, a[0] * _pairs(a[1], b[1], reach))


def find_nearest_seen(*, a: Tensor, b: Tensor, low: Tensor, high: Tensor, **rest: Any) -> int:
    """Normalise all rows, compare those seen: all where tensors have no values. It takes tensors, not their shapes."""
    with_values = type(low) is Tensor and not low.is_meta
    pairs = int((high - low).clamp(min=0).sum()) if with_values else low.numel() * b.shape[1]
    return _compare(a.shape, b.shape, pairs)


def closest_pairs(*, features: Shape, protected: Shape, reach: int, **rest: Any) -> int:
    """As `find_nearest`, of candidates and targets."""
    batch, length, width = features
    rows = length - protected[1]
    targets = rows // 2
    return find_nearest(a=Shape((batch, rows - targets, width)), b=Shape((batch, targets, width)), reach=reach)


def lay_out(**operands: Any) -> int:
    """Positions alone."""
    return 0


def _compare(a: Shape, b: Shape, pairs: int) -> int:
    return 3 * (a.numel() + b.numel()) + pairs * (2 * a[2] + 1)


def _pairs(rows: int, columns: int, reach: int) -> int:
    """Of one image, where row i sees the columns [i - reach, i + reach)."""
    return sum(max(0, min(columns, i + reach) - max(0, i - reach)) for i in range(rows))


FORMULAS: dict[str, Formula] = {
    formula.__name__: formula
    for formula in (
        *(selective_scan, selective_scan_backward, bidirectional_scan, bidirectional_scan_backward),
        *(causal_conv, causal_conv_backward, add_norm, add_norm_backward, mamba_block, mamba_block_backward),
        *(merge_rows, merge_rows_backward),
        *(find_nearest, find_nearest_seen, closest_pairs, lay_out),
    )
}
