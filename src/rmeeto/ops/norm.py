"""Join the residual stream and normalise it, in one pass (Zhang and Sennrich 2019, equation 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from rmeeto.ops.operands import misfit
from rmeeto.ops.registration import needed, register, run
from rmeeto.ops.select import Impl, choose

if TYPE_CHECKING:
    from jaxtyping import Float


def add_norm(
    x: Float[Tensor, "b l d"],
    residual: Float[Tensor, "b l d"] | None,
    weight: Float[Tensor, " d"],
    *,
    eps: float = 1e-5,
    dtype: torch.dtype | None = None,
    impl: Impl = "auto",
) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b l d"]]:
    """Add what a block made to the residual stream, and normalise the sum for the next block.

    That is::

        stream = residual + x                                   in float32 (float64 for float64 x)
        normed = stream / sqrt(mean(stream²) + eps) * weight    over the last axis

    Args:
        x: (b, l, d); may be a slice of a larger tensor, it is read where it lies.
        residual: (b, l, d) in the stream's dtype, or None before the first block.
        weight: (d,).
        eps: added to the mean square.
        dtype: of ``normed``; weight's unless given.
        impl: ``"auto"`` or the implementation that must be used; see `rmeeto.ops.select`.

    Returns:
        ``normed`` and ``stream``, both contiguous (b, l, d).

    Raises:
        UnsupportedInput: shapes do not fit each other, the residual has another dtype than the stream, or ``impl``
            cannot take the tensors.
        UnknownName: there is no such ``impl``.

    >>> normed, stream = add_norm(torch.rand(2, 197, 384), torch.rand(2, 197, 384), torch.ones(384))
    >>> normed.shape
    torch.Size([2, 197, 384])
    """
    _check(x, residual, weight)
    dtype = weight.dtype if dtype is None else dtype
    return cast(tuple[Tensor, Tensor], run("add_norm", x, residual, weight, eps, dtype, impl))


def stream_dtype(x: Tensor) -> torch.dtype:
    """The residual stream's: float32, or float64 for float64 x."""
    return torch.promote_types(x.dtype, torch.float32)


def _check(x: Tensor, residual: Tensor | None, weight: Tensor) -> None:
    why = None
    if x.ndim != 3 or not x.is_floating_point():
        why = "x must be floating (b, l, d)"
    elif weight.shape != x.shape[2:]:
        why = f"weight must be ({x.shape[2]},)"
    elif residual is not None and (residual.shape != x.shape or residual.dtype != stream_dtype(x)):
        why = f"the residual must be {tuple(x.shape)} in {stream_dtype(x)}"
    elif weight.device != x.device or (residual is not None and residual.device != x.device):
        why = f"x is on {x.device}, the others are not"
    if why is not None:
        raise misfit("add_norm", {"x": x, "residual": residual, "weight": weight}, why)


# The same construction as in `rmeeto.ops.scan`.

torch.library.define(
    "rmeeto::add_norm",
    "(Tensor x, Tensor? residual, Tensor weight, float eps, ScalarType dtype, str impl) -> (Tensor, Tensor)",
)
torch.library.define(
    "rmeeto::add_norm_backward",
    "(Tensor grad, Tensor grad_stream, Tensor stream, Tensor weight, float eps, str impl) -> (Tensor, Tensor)",
)


def _forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype, impl: str
) -> tuple[Tensor, Tensor]:
    return choose("add_norm", impl, {"x": x, "weight": weight}).add_norm(x, residual, weight, eps, dtype)


def _backward(
    grad: Tensor, grad_stream: Tensor, stream: Tensor, weight: Tensor, eps: float, impl: str
) -> tuple[Tensor, Tensor]:
    module = choose("add_norm", impl, {"x": stream, "weight": weight})
    return module.add_norm_backward(grad, grad_stream, stream, weight, eps)


def _fake_forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype, impl: str
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=dtype), x.new_empty(x.shape, dtype=stream_dtype(x))


def _fake_backward(grad: Tensor, grad_stream: Tensor, stream: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return stream.new_empty(stream.shape), weight.new_empty(weight.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, _, weight, eps, _, impl = inputs
    ctx.save_for_backward(output[1], weight)
    ctx.x_dtype, ctx.choices = x.dtype, (eps, impl)


def _differentiate(ctx: Any, grad: Tensor, grad_stream: Tensor) -> tuple[Tensor | None, ...]:
    dstream, dweight = run("add_norm_backward", grad, grad_stream, *ctx.saved_tensors, *ctx.choices)
    return needed(ctx, (dstream.to(ctx.x_dtype), dstream, dweight))


register("add_norm", _forward, _backward, _fake_forward, _fake_backward, _save, _differentiate)
