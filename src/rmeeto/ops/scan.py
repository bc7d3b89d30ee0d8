"""The selective scan of Mamba (Gu and Dao 2023, sections 2 and 3.2), in either direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from rmeeto.errors import UnsupportedInput
from rmeeto.ops.impl import reference
from rmeeto.ops.operands import shapes, unfit
from rmeeto.ops.registration import register_gradient, run
from rmeeto.ops.select import Impl, Implementation, check_impl, choose

if TYPE_CHECKING:
    from jaxtyping import Float

OPERANDS = ("u", "delta", "A", "B", "C", "skip", "gate", "delta_bias")


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
    operands = (u, delta, A, B, C, skip, gate, delta_bias)
    if any(x is None for x in operands[:5]):
        raise _misfit(dict(zip(OPERANDS, operands, strict=True)), "u, delta, A, B and C are needed")
    check_operands(u, A, dict(zip(OPERANDS, operands, strict=True)))
    dtype = u.dtype
    return cast(
        Tensor,
        run(
            "selective_scan",
            u,
            delta.to(dtype),
            A,
            B.to(dtype),
            C.to(dtype),
            skip,
            gate if gate is None else gate.to(dtype),
            delta_bias,
            delta_softplus,
            reverse,
            impl,
        ),
    )


def check_operands(u: Tensor, A: Tensor, given: Mapping[str, Tensor | None]) -> None:
    """Raise `UnsupportedInput` unless the operands (by name, absent ones None or left out) fit these two."""
    if (why := unfit(given)) is not None:
        raise _misfit(given, why)
    if u.ndim != 3 or A.ndim != 2 or u.shape[1] == 0:
        raise _misfit(given, f"u must be floating (b, l, e) with at least one token, and A (e, n); u is {u.dtype}")
    (batch, length, e), n = u.shape, A.shape[1]
    tokens, states, channels = (batch, length, e), (batch, length, n), (e,)
    wanted = dict(zip(OPERANDS, (tokens, tokens, (e, n), states, states, channels, tokens, channels), strict=True))
    for name, x in given.items():
        shape = wanted[name]
        if x is not None and x.shape != shape:
            raise _misfit(given, f"with u (b, l, e) = {tokens} and A (e, n) = {(e, n)}, {name} must be {shape}")
        if x is not None and x.device != u.device:
            raise _misfit(given, f"{name} is on {x.device}, u on {u.device}")


def _misfit(given: Mapping[str, Tensor | None], why: str) -> UnsupportedInput:
    return UnsupportedInput("selective_scan", given=shapes(given), why=why, fix="see its docstring for the shapes")


# One opaque operation with the implementation chosen inside: a compiled or exported graph carries the
# name, not the choice, and impl="auto" is resolved on the machine that runs it.

_OPERAND_TYPES = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? skip, Tensor? gate, Tensor? delta_bias, "
    "bool delta_softplus, bool reverse, str impl"
)
torch.library.define("rmeeto::selective_scan", f"({_OPERAND_TYPES}) -> Tensor")
torch.library.define(
    "rmeeto::selective_scan_backward",
    f"(Tensor grad, {_OPERAND_TYPES}) -> ({', '.join(['Tensor'] * len(OPERANDS))})",
)


def _choose(impl: str, inputs: list[Any]) -> Implementation:
    present = {name: x for name, x in zip(OPERANDS, inputs, strict=False) if x is not None}
    return choose("selective_scan", impl, present)


def _forward(*args: Any) -> Tensor:
    *inputs, impl = args
    return _choose(impl, inputs).selective_scan(*inputs)


def _backward(grad: Tensor, *args: Any) -> tuple[Tensor, ...]:
    *inputs, impl = args
    return _choose(impl, inputs).selective_scan_backward(grad, *inputs)


def _fake_forward(u: Tensor, *rest: Any) -> Tensor:
    return u.new_empty(u.shape)


def _fake_backward(grad: Tensor, *args: Any) -> tuple[Tensor, ...]:
    return tuple(grad.new_empty(0) if x is None else x.new_empty(x.shape) for x in args[: len(OPERANDS)])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[: len(OPERANDS)])
    ctx.choices = inputs[len(OPERANDS) :]


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    gradients = run("selective_scan_backward", grad, *ctx.saved_tensors, *ctx.choices)
    wanted = zip(gradients, ctx.needs_input_grad, strict=False)
    return (*(g if needed else None for g, needed in wanted), None, None, None)


torch.library.impl("rmeeto::selective_scan", "default", _forward)
torch.library.impl("rmeeto::selective_scan_backward", "default", _backward)
torch.library.register_fake("rmeeto::selective_scan", _fake_forward)
torch.library.register_fake("rmeeto::selective_scan_backward", _fake_backward)
register_gradient(
    "selective_scan",
    plain=reference.selective_scan,
    plain_backward=reference.selective_scan_backward,
    save=_save,
    differentiate=_differentiate,
)
