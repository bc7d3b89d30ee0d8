"""Both directions of a bidirectional Mamba in one call (Zhu et al. 2024, algorithm 1, lines 6 to 21)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from rmeeto.ops.registration import register_gradient, run
from rmeeto.ops.scan import check_operands
from rmeeto.ops.select import Impl, Implementation, choose

if TYPE_CHECKING:
    from jaxtyping import Float


class Walk(NamedTuple):
    """One direction's operands of a scan: see `rmeeto.ops.selective_scan` for their meaning."""

    u: Float[Tensor, "b l e"]
    delta: Float[Tensor, "b l e"]
    A: Float[Tensor, "e n"]
    B: Float[Tensor, "b l n"]
    C: Float[Tensor, "b l n"]
    skip: Float[Tensor, " e"]
    delta_bias: Float[Tensor, " e"]


def bidirectional_scan(
    forward: Walk, backward: Walk, gate: Float[Tensor, "b l e"], *, impl: Impl = "auto"
) -> Float[Tensor, "b l e"]:
    """Scan from the first token and from the last, add, and gate the sum.

    It equals::

        selective_scan(*forward, gate=gate, delta_softplus=True)
        + selective_scan(*backward, gate=gate, delta_softplus=True, reverse=True)

    but the gate is read and opened once, the sum is never a tensor of its own, and no output is kept per direction.

    Args:
        forward: operands of the walk from the first token.
        backward: operands of the walk from the last token, of the same shapes.
        gate: (b, l, e), multiplies the sum after SiLU.
        impl: ``"auto"`` or the implementation that must be used; see `rmeeto.ops.select`.

    Returns:
        (b, l, e), contiguous, in u's dtype.

    Raises:
        UnsupportedInput: shapes do not fit each other, or ``impl`` cannot take the tensors.
        UnknownName: there is no such ``impl``.
    """
    dtype = forward.u.dtype
    for walk in (forward, backward):
        check_operands(walk.u, walk.A, {**walk._asdict(), "gate": gate})
    check_operands(forward.u, forward.A, {"u": backward.u, "A": backward.A})
    flat = [*_brought_to(dtype, forward), *_brought_to(dtype, backward), gate.to(dtype)]
    return cast(Tensor, run("bidirectional_scan", *flat, impl))


def _brought_to(dtype: torch.dtype, walk: Walk) -> Walk:
    tokens = {name: getattr(walk, name).to(dtype) for name in ("u", "delta", "B", "C")}
    return walk._replace(**tokens)


# The same construction as in `rmeeto.ops.scan`.

WIDTH = len(Walk._fields)
_OPERAND_TYPES = ", ".join(
    [*(f"Tensor {name}{side}" for side in ("", "_b") for name in Walk._fields), "Tensor gate", "str impl"]
)
torch.library.define("rmeeto::bidirectional_scan", f"({_OPERAND_TYPES}) -> Tensor")
torch.library.define(
    "rmeeto::bidirectional_scan_backward",
    f"(Tensor grad, {_OPERAND_TYPES}) -> ({', '.join(['Tensor'] * (2 * WIDTH + 1))})",
)


def _parted(args: tuple[Any, ...]) -> tuple[Implementation, Walk, Walk, Tensor]:
    first, second = Walk(*args[:WIDTH]), Walk(*args[WIDTH : 2 * WIDTH])
    gate, impl = args[2 * WIDTH :]
    return choose("selective_scan", impl, {**first._asdict(), "gate": gate}), first, second, gate


def _arguments(walk: Walk, gate: Tensor, *, reverse: bool) -> tuple[Any, ...]:
    """As `Implementation.selective_scan` takes them."""
    return (*walk[:5], walk.skip, gate, walk.delta_bias, True, reverse)


def _forward(*args: Any) -> Tensor:
    module, first, second, gate = _parted(args)
    if hasattr(module, "scan_both"):
        return module.scan_both(first, second, gate)
    return _one_by_one(module, first, second, gate)


def _one_by_one(module: Implementation, first: Walk, second: Walk, gate: Tensor) -> Tensor:
    ahead = module.selective_scan(*_arguments(first, gate, reverse=False))
    return ahead + module.selective_scan(*_arguments(second, gate, reverse=True))


def _backward(grad: Tensor, *args: Any) -> tuple[Tensor, ...]:
    module, first, second, gate = _parted(args)
    gradients, dgate = [], None
    for walk, reverse in ((first, False), (second, True)):
        *tokens, dskip, of_gate, dbias = module.selective_scan_backward(grad, *_arguments(walk, gate, reverse=reverse))
        gradients += [*tokens, dskip, dbias]
        dgate = of_gate if dgate is None else dgate + of_gate
    assert dgate is not None
    return (*gradients, dgate)


def _plain(*operands: Tensor) -> Tensor:
    return _one_by_one(*_parted((*operands, "reference")))


def _plain_backward(grad: Tensor, *operands: Tensor) -> tuple[Tensor, ...]:
    return _backward(grad, *operands, "reference")


def _fake_forward(u: Tensor, *rest: Any) -> Tensor:
    return u.new_empty(u.shape)


def _fake_backward(grad: Tensor, *args: Any) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in args[: 2 * WIDTH + 1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *operands, ctx.impl = inputs
    ctx.save_for_backward(*operands)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    gradients = run("bidirectional_scan_backward", grad, *ctx.saved_tensors, ctx.impl)
    wanted = zip(gradients, ctx.needs_input_grad, strict=False)
    return (*(g if needed else None for g, needed in wanted), None)


torch.library.impl("rmeeto::bidirectional_scan", "default", _forward)
torch.library.impl("rmeeto::bidirectional_scan_backward", "default", _backward)
torch.library.register_fake("rmeeto::bidirectional_scan", _fake_forward)
torch.library.register_fake("rmeeto::bidirectional_scan_backward", _fake_backward)
register_gradient(
    "bidirectional_scan", plain=_plain, plain_backward=_plain_backward, save=_save, differentiate=_differentiate
)
