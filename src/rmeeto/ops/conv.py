"""The short depthwise convolution that stands before the scan: causal in either direction, SiLU fused."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from rmeeto.ops.operands import misfit, unfit
from rmeeto.ops.registration import register_with_gradients, run
from rmeeto.ops.select import Impl, check_impl, choose

if TYPE_CHECKING:
    from jaxtyping import Float


def causal_conv(
    x: Float[Tensor, "b l e"],
    weight: Float[Tensor, "e 1 k"],
    bias: Float[Tensor, " e"] | None = None,
    *,
    silu: bool = True,
    reverse: bool = False,
    impl: Impl = "auto",
) -> Float[Tensor, "b l e"]:
    """Convolve every channel with its own k taps, reading only tokens that the walk has passed.

    Tokens outside the sequence count as zero::

        y_t = bias + sum_j weight[:, 0, j] * x_{t-k+1+j}      reverse=False: this token and the k-1 before it
        y_t = bias + sum_j weight[:, 0, j] * x_{t+k-1-j}      reverse=True:  this token and the k-1 after it

    and then SiLU if ``silu``. ``reverse=True`` is what flipping x, convolving and flipping back would
    give, without moving anything.

    Args:
        x: (b, l, e); may be a slice of a larger tensor, it is read where it lies.
        weight: (e, 1, k) as a depthwise `torch.nn.Conv1d` holds it, usually float32.
        bias: (e,).
        silu: Pass the sums through SiLU.
        reverse: Look at later tokens instead of earlier ones.
        impl: ``"auto"`` or the implementation that must be used; see `rmeeto.ops.select`.

    Returns:
        (b, l, e), contiguous, in x's dtype.

    Raises:
        UnsupportedInput: shapes do not fit each other, x is not floating, or ``impl`` cannot take the tensors.
        UnknownName: there is no such ``impl``.

    >>> causal_conv(torch.rand(2, 197, 768), torch.rand(768, 1, 4), torch.rand(768)).shape
    torch.Size([2, 197, 768])
    """
    check_impl(impl)
    _check(x, weight, bias)
    return cast(Tensor, run("causal_conv", x, weight, bias, silu, reverse, impl))


def _check(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    given = {"x": x, "weight": weight, "bias": bias}
    if x is None or weight is None:
        why = "x and weight are needed"
    elif (why := unfit(given)) is not None:
        pass
    elif x.ndim != 3 or x.shape[1] == 0:
        why = "x must be floating (b, l, e) with at least one token"
    elif weight.ndim != 3 or weight.shape[:2] != (x.shape[2], 1) or weight.shape[2] == 0:
        why = f"weight must be (e, 1, k) with e = {x.shape[2]}"
    elif bias is not None and bias.shape != (x.shape[2],):
        why = f"bias must be ({x.shape[2]},)"
    elif weight.device != x.device or (bias is not None and bias.device != x.device):
        why = f"x is on {x.device}, the weights are not"
    if why is not None:
        raise misfit("causal_conv", given, why)


# The same construction as in `rmeeto.ops.scan`.

_ARGUMENTS = "Tensor x, Tensor weight, Tensor? bias, bool silu, bool reverse, str impl"
torch.library.define("rmeeto::causal_conv", f"({_ARGUMENTS}) -> Tensor")
torch.library.define("rmeeto::causal_conv_backward", f"(Tensor grad, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")


def _present(x: Tensor, weight: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
    return {"x": x, "weight": weight} if bias is None else {"x": x, "weight": weight, "bias": bias}


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool, impl: str) -> Tensor:
    module = choose("causal_conv", impl, _present(x, weight, bias))
    return module.causal_conv(x, weight, bias, silu, reverse)


def _backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool, impl: str
) -> tuple[Tensor, ...]:
    module = choose("causal_conv", impl, _present(x, weight, bias))
    return module.causal_conv_backward(grad, x, weight, bias, silu, reverse)


register_with_gradients("causal_conv", _forward, _backward, tensors=3)
