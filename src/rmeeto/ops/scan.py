"""The selective scan of Mamba (Gu and Dao 2023, sections 2 and 3.2), in either direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from rmeeto.ops.operands import ScanOperands, misfit, unfit
from rmeeto.ops.registration import register_with_gradients, run
from rmeeto.ops.select import Impl, check_impl, choose

if TYPE_CHECKING:
    from jaxtyping import Float


def selective_scan(
    u: Float[Tensor, "b l e"],
    delta: Float[Tensor, "b l e"],
    A: Float[Tensor, "e n"],
    B: Float[Tensor, "b l n"],
    C: Float[Tensor, "b l n"],
    *,
    skip: Float[Tensor, " e"] | None = None,
    gate: Float[Tensor, "b l e"] | None = None,
    delta_bias: Float[Tensor, " e"] | None = None,
    delta_softplus: bool = False,
    reverse: bool = False,
    impl: Impl = "auto",
) -> Float[Tensor, "b l e"]:
    """Run every channel's linear recurrence with input-dependent step sizes along the tokens.

    For each image, each channel and its n states, with h = 0 before the first token::

        d_t   = delta_t + delta_bias                 then softplus(d_t) if delta_softplus
        h_t   = exp(d_t * A) * h_{t-1} + d_t * u_t * B_t
        y_t   = sum_n(C_t * h_t) + skip * u_t
        out_t = y_t * silu(gate_t)

    ``reverse=True`` reads h_{t+1} in place of h_{t-1}: the walk starts at the last token. Inputs and output
    stay in time order; nothing is flipped.

    Args:
        u: (b, l, e) input; its dtype is the output's, and delta, B, C and gate are brought to it.
        delta: (b, l, e) step sizes.
        A: (e, n) decay rates, negative.
        B: (b, l, n) input weights, shared by the channels.
        C: (b, l, n) output weights, shared by the channels.
        skip: (e,) weight of the input in the output.
        gate: (b, l, e) multiplies the output after SiLU.
        delta_bias: (e,) added to delta.
        delta_softplus: Pass delta (with its bias) through softplus, linear above 20.
        reverse: Walk from the last token to the first.
        impl: ``"auto"`` or the implementation that must be used; see `rmeeto.ops.select`.

    A, skip and delta_bias keep their own dtype, usually float32. Arithmetic is float32 (float64 for float64
    inputs). u, delta, B, C and gate may be slices of larger tensors: they are read where they lie.

    Returns:
        (b, l, e), contiguous, in u's dtype.

    Raises:
        UnsupportedInput: shapes do not fit each other, u is not floating, or ``impl`` cannot take the tensors.
        UnknownName: there is no such ``impl``.

    >>> u, delta, gate = torch.rand(3, 2, 197, 768).unbind()  # (b, l, e) = (2, 197, 768)
    >>> A, (B, C) = -torch.rand(768, 16), torch.rand(2, 2, 197, 16).unbind()
    >>> selective_scan(u, delta, A, B, C, gate=gate, reverse=True).shape
    torch.Size([2, 197, 768])
    """
    check_impl(impl)
    operands = ScanOperands(u, delta, A, B, C, skip, gate, delta_bias)
    check_operands(operands)
    return cast(Tensor, run("selective_scan", *operands.tokens_in(u.dtype), delta_softplus, reverse, impl))


def check_operands(operands: ScanOperands) -> None:
    """Raise `UnsupportedInput` unless the operands fit each other."""
    given, (u, A) = operands._asdict(), (operands.u, operands.A)
    if any(x is None for x in operands[:5]):
        raise misfit("selective_scan", given, "u, delta, A, B and C are needed")
    if (why := unfit(given)) is not None:
        raise misfit("selective_scan", given, why)
    if u.ndim != 3 or A.ndim != 2 or u.shape[1] == 0:
        why = f"u must be floating (b, l, e) with at least one token, and A (e, n); u is {u.dtype}"
        raise misfit("selective_scan", given, why)
    (batch, length, e), n = u.shape, A.shape[1]
    tokens, states, channels = (batch, length, e), (batch, length, n), (e,)
    expected = (tokens, tokens, (e, n), states, states, channels, tokens, channels)
    for (name, x), shape in zip(given.items(), expected, strict=True):
        if x is not None and x.shape != shape:
            why = f"with u (b, l, e) = {tokens} and A (e, n) = {(e, n)}, {name} must be {shape}"
            raise misfit("selective_scan", given, why)
        if x is not None and x.device != u.device:
            raise misfit("selective_scan", given, f"{name} is on {x.device}, u on {u.device}")


# One opaque operation with the implementation chosen inside: a compiled or exported graph carries the
# name, not the choice, and impl="auto" is resolved on the machine that runs it.

_ARGUMENTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? skip, Tensor? gate, Tensor? delta_bias, "
    "bool delta_softplus, bool reverse, str impl"
)
_TENSORS = len(ScanOperands._fields)
torch.library.define("rmeeto::selective_scan", f"({_ARGUMENTS}) -> Tensor")
torch.library.define(
    "rmeeto::selective_scan_backward", f"(Tensor grad, {_ARGUMENTS}) -> ({', '.join(['Tensor'] * _TENSORS)})"
)


def _forward(*args: Any) -> Tensor:
    operands, (delta_softplus, reverse, impl) = ScanOperands(*args[:_TENSORS]), args[_TENSORS:]
    module = choose("selective_scan", impl, operands.present())
    return module.selective_scan(operands, delta_softplus, reverse)


def _backward(grad: Tensor, *args: Any) -> tuple[Tensor, ...]:
    operands, (delta_softplus, reverse, impl) = ScanOperands(*args[:_TENSORS]), args[_TENSORS:]
    module = choose("selective_scan", impl, operands.present())
    return module.selective_scan_backward(grad, operands, delta_softplus, reverse)


register_with_gradients("selective_scan", _forward, _backward, tensors=_TENSORS)
