"""Both directions of a bidirectional Mamba in one call (Zhu et al. 2024, algorithm 1, lines 6 to 21)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from rmeeto.ops.operands import ScanOperands, misfit
from rmeeto.ops.registration import register_with_gradients, run
from rmeeto.ops.scan import check_operands
from rmeeto.ops.select import Impl, Implementation, choose

if TYPE_CHECKING:
    from jaxtyping import Float


def bidirectional_scan(
    forward: ScanOperands, backward: ScanOperands, gate: Float[Tensor, "b l e"], *, impl: Impl = "auto"
) -> Float[Tensor, "b l e"]:
    """Scan from the first token and from the last, add, and gate the sum.

    It equals `selective_scan` of ``forward`` plus that of ``backward`` with ``reverse=True``, both with this gate and
    ``delta_softplus=True``, but the gate is read and opened once, the sum is never a tensor of its own, and no output
    is kept per direction.

    Args:
        forward: operands of the walk from the first token, without a gate.
        backward: operands of the walk from the last token, of the same shapes, without a gate.
        gate: (b, l, e), multiplies the sum after SiLU.
        impl: ``"auto"`` or the implementation that must be used; see `rmeeto.ops.select`.

    Returns:
        (b, l, e), contiguous, in u's dtype.

    Raises:
        UnsupportedInput: shapes do not fit each other, or ``impl`` cannot take the tensors.
        UnknownName: there is no such ``impl``.
    """
    forward, backward = forward._replace(gate=gate), backward._replace(gate=gate)
    for operands in (forward, backward):
        check_operands(operands)
    if backward.A.shape != forward.A.shape:
        raise misfit("bidirectional_scan", {"A": forward.A, "A_b": backward.A}, "both directions need as many states")
    dtype = forward.u.dtype
    *others, _, bias = backward.tokens_in(dtype)
    return cast(Tensor, run("bidirectional_scan", *forward.tokens_in(dtype), *others, bias, impl))


# The same construction as in `rmeeto.ops.scan`. The gate stands with the operands of the forward direction only.

_FIRST, _SECOND = ScanOperands._fields, [name for name in ScanOperands._fields if name != "gate"]
_TENSORS = len(_FIRST) + len(_SECOND)
_ARGUMENTS = ", ".join([*(f"Tensor {name}" for name in _FIRST), *(f"Tensor {name}_b" for name in _SECOND), "str impl"])
torch.library.define("rmeeto::bidirectional_scan", f"({_ARGUMENTS}) -> Tensor")
torch.library.define(
    "rmeeto::bidirectional_scan_backward", f"(Tensor grad, {_ARGUMENTS}) -> ({', '.join(['Tensor'] * _TENSORS)})"
)


def _chosen(args: tuple[Any, ...]) -> tuple[Implementation, ScanOperands, ScanOperands]:
    first, (u, delta, A, B, C, skip, bias, impl) = ScanOperands(*args[: len(_FIRST)]), args[len(_FIRST) :]
    second = ScanOperands(u, delta, A, B, C, skip, first.gate, bias)
    return choose("selective_scan", impl, first.present()), first, second


def _forward(*args: Any) -> Tensor:
    module, first, second = _chosen(args)
    if hasattr(module, "bidirectional_scan"):
        return module.bidirectional_scan(first, second)
    return module.selective_scan(first, True, False) + module.selective_scan(second, True, True)


def _backward(grad: Tensor, *args: Any) -> tuple[Tensor, ...]:
    module, first, second = _chosen(args)
    *ahead, dgate, dbias = module.selective_scan_backward(grad, first, True, False)
    *behind, dgate_b, dbias_b = module.selective_scan_backward(grad, second, True, True)
    return (*ahead, dgate + dgate_b, dbias, *behind, dbias_b)


register_with_gradients("bidirectional_scan", _forward, _backward, tensors=_TENSORS)
