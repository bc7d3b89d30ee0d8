"""Arithmetic of PyTorch in ONNX, element by element or along an axis."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from rmeeto.exporting.lowering import rows
from rmeeto.exporting.lowering.graph import Operand, Size, Value, element_type, integers
from rmeeto.exporting.lowering.scan import silu
from rmeeto.exporting.lowering.table import Call, Untranslatable, axis_of, translates


def operands(call: Call, *given: Any) -> list[Any]:
    """Both operands of an operation, in the type that PyTorch computes in."""
    tensors = [(x, call.given(number)) for number, x in enumerate(given)]
    dtypes = [meta.dtype if isinstance(meta, torch.Tensor) else None for _, meta in tensors]
    own = [dtype for dtype in dtypes if dtype is not None]
    common = own[0] if len(own) == 1 else torch.promote_types(*own)
    if any(isinstance(x, float) for x in given) and not common.is_floating_point:
        common = torch.float32
    ready: list[Any] = []
    for (x, _), dtype in zip(tensors, dtypes, strict=True):
        if isinstance(x, Size):
            ready.append(call.graph.node("Cast", Value(x.name), to=element_type(common)))
        elif dtype is None:
            ready.append(torch.tensor(x, dtype=common))
        else:
            ready.append(x if dtype == common else cast(call, x, common))
    return ready


def cast(call: Call, x: Operand, dtype: torch.dtype) -> Operand:
    """A tensor in another type."""
    if isinstance(x, torch.Tensor):
        return x.to(dtype)
    return call.graph.node("Cast", x, to=element_type(dtype))


def _binary(operation: str, call: Call, a: Any, b: Any, alpha: float = 1) -> Value:
    left, right = operands(call, a, b)
    if alpha != 1:
        right = call.graph.node("Mul", right, torch.tensor(alpha))
    return call.graph.node(operation, left, right)


for _torch, _onnx in {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "eq": "Equal",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "lt": "Less",
}.items():
    translates(f"aten.{_torch}.Tensor", f"aten.{_torch}.Scalar")(partial(_binary, _onnx))
translates("aten.add_.Tensor")(partial(_binary, "Add"))


@translates("aten.div.Tensor", "aten.div.Scalar")
def divide(call: Call, a: Any, b: Any) -> Value:
    """A quotient, in float32 at least."""
    if not call.given(0).dtype.is_floating_point:
        a = cast(call, a, call.result.dtype)
        return call.graph.node("Div", a, torch.tensor(b, dtype=call.result.dtype))
    return call.graph.node("Div", *operands(call, a, b))


@translates("aten.floor_divide.default", "aten.floor_divide_.default", "aten.div.Tensor_mode")
def divide_down(call: Call, a: Any, b: Any, rounding_mode: str = "floor") -> Value:
    """A whole quotient of numbers that are not negative, rounded down."""
    return call.graph.node("Div", *operands(call, a, b))


@translates("aten.rsub.Scalar")
def subtract_from(call: Call, a: Any, b: Any) -> Value:
    """``b - a``."""
    left, right = operands(call, a, b)
    return call.graph.node("Sub", right, left)


@translates("aten.pow.Tensor_Scalar")
def power(call: Call, x: Any, exponent: float) -> Value:
    """A power."""
    return call.graph.node("Pow", x, torch.tensor(exponent, dtype=call.result.dtype))


def _unary(operation: str, call: Call, x: Any, *_: Any, **__: Any) -> Value:
    return call.graph.node(operation, x)


for _torch, _onnx in {
    "neg": "Neg",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "softplus": "Softplus",
    "bitwise_not": "Not",
    "logical_not": "Not",
}.items():
    translates(f"aten.{_torch}.default")(partial(_unary, _onnx))


@translates("aten.silu.default", "aten.silu_.default")
def swish(call: Call, x: Any) -> Value:
    """``x · sigmoid(x)``."""
    return silu(call.graph, x)


@translates("aten.gelu.default")
def gelu(call: Call, x: Any, *, approximate: str = "none") -> Value:
    """GELU."""
    return call.graph.node("Gelu", x, approximate=approximate)


@translates("aten.bitwise_or.Tensor", "aten.logical_or.default", "aten.__or__.Tensor")
def either(call: Call, a: Any, b: Any) -> Value:
    """Whether one of both is true."""
    return call.graph.node("Or", a, b)


@translates("aten.bitwise_and.Tensor", "aten.logical_and.default", "aten.__and__.Tensor")
def both(call: Call, a: Any, b: Any) -> Value:
    """Whether both are true."""
    return call.graph.node("And", a, b)


@translates("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf")
def where(call: Call, condition: Any, a: Any, b: Any) -> Value:
    """One of both, by a condition."""
    dtype = call.result.dtype
    ready = [x if isinstance(x, Value) else torch.as_tensor(x, dtype=dtype) for x in (a, b)]
    return call.graph.node("Where", condition, *ready)


@translates("aten.masked_fill.Scalar", "aten.masked_fill_.Scalar")
def masked_fill(call: Call, x: Any, mask: Any, number: float) -> Value:
    """Numbers, and another one where a mask is true."""
    return call.graph.node("Where", mask, call.constant(number), x)


@translates("aten.clamp.default", "aten.clamp_min.default", "aten.clamp_max.default", "aten.clamp_min_.default")
def clamp(call: Call, x: Any, min: float | None = None, max: float | None = None) -> Value:
    """Numbers within bounds."""
    if "clamp_max" in str(call.node.target):
        min, max = None, min
    for operation, bound in (("Max", min), ("Min", max)):
        if bound is not None:
            x = call.graph.node(operation, x, call.constant(bound))
    return x  # type: ignore[no-any-return]


def _reduced(operation: str, call: Call, x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    if dtype is not None and dtype != call.given(0).dtype:
        x = cast(call, x, dtype)
    elif call.given(0).dtype == torch.bool:
        x = cast(call, x, torch.int64)
    axes = [dim] if isinstance(dim, int) else list(dim) if dim else [*range(call.given(0).ndim)]
    return call.graph.node(operation, x, integers(*axes), keepdims=int(keepdim))


translates("aten.sum.dim_IntList", "aten.sum.default")(partial(_reduced, "ReduceSum"))
translates("aten.mean.dim", "aten.mean.default")(partial(_reduced, "ReduceMean"))
translates("aten.amax.default")(partial(_reduced, "ReduceMax"))
translates("aten.amin.default")(partial(_reduced, "ReduceMin"))


@translates("aten.linalg_vector_norm.default")
def norm(call: Call, x: Any, order: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    """The length of vectors."""
    return _reduced("ReduceL2" if order == 2 else "ReduceL1", call, x, dim, keepdim)


@translates("aten.norm.ScalarOpt_dim")
def norm_along(call: Call, x: Any, order: float, dim: Any, keepdim: bool = False) -> Value:
    """The length of vectors."""
    length: Value = norm(call, x, order, dim, keepdim)
    return length


@translates("aten.max.dim", "aten.min.dim")
def extreme(call: Call, x: Any, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
    """The largest or smallest along an axis, and where it stands; of equal ones the first."""
    kind = "Max" if "max" in str(call.node.target) else "Min"
    axis = axis_of(dim, call.given(0).ndim)
    best = call.graph.node(f"Reduce{kind}", x, integers(axis), keepdims=int(keepdim))
    return best, call.graph.node(f"Arg{kind}", x, axis=axis, keepdims=int(keepdim), select_last_index=0)


@translates("aten.argmax.default", "aten.argmin.default")
def argument(call: Call, x: Any, dim: int, keepdim: bool = False) -> Value:
    """Where the largest or smallest along an axis stands; of equal ones the first."""
    kind = "Max" if "max" in str(call.node.target) else "Min"
    axis = axis_of(dim, call.given(0).ndim)
    return call.graph.node(f"Arg{kind}", x, axis=axis, keepdims=int(keepdim), select_last_index=0)


@translates("aten.cumsum.default")
def cumsum(call: Call, x: Any, dim: int, *, dtype: Any = None) -> Value:
    """Sums so far."""
    if call.given(0).dtype == torch.bool:
        x = cast(call, x, torch.int64)
    return call.graph.node("CumSum", x, np.array(dim, dtype=np.int64))


@translates("aten.sort.default", "aten.sort.stable")
def sort(
    call: Call, x: Any, dim: int = -1, descending: bool = False, *, stable: bool | None = None
) -> tuple[Value, Value]:
    """``(b, n)`` numbers in order, and where they stood; equal ones by place."""
    places = argsort(call, x, dim, descending, stable=stable)
    return call.graph.node("GatherElements", x, places, axis=1), places


@translates("aten.argsort.default", "aten.argsort.stable")
def argsort(call: Call, x: Any, dim: int = -1, descending: bool = False, *, stable: bool | None = None) -> Value:
    """Where ``(b, n)`` numbers stood before they were put in order; equal ones by place."""
    given = call.given(0)
    if given.ndim != 2 or axis_of(dim, 2) != 1:
        raise Untranslatable(f"a sort of {tuple(given.shape)} along axis {dim}")
    return rows.order(call.graph, x, given.shape[1], descending=descending)


@translates("aten.softmax.int", "aten._softmax.default")
def softmax(call: Call, x: Any, dim: int, *_: Any) -> Value:
    """Softmax along an axis."""
    return call.graph.node("Softmax", x, axis=dim)
