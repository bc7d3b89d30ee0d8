"""What PyTorch does with shapes and positions, in ONNX."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from rmeeto.exporting.lowering import match
from rmeeto.exporting.lowering.graph import Operand, Size, Value, integers
from rmeeto.exporting.lowering.plain import cast
from rmeeto.exporting.lowering.table import Call, Untranslatable, axis_of, translates


@translates("aten.sym_size.int")
def side(call: Call, x: Any, dim: int) -> Size | int:
    """A side of a tensor, where it is known to the runtime only."""
    return Size(call.graph.node("Shape", x, start=dim, end=dim + 1, name="images").name)


def _calculated(operation: str, call: Call, a: Any, b: Any) -> Size:
    left, right = (Value(x.name) if isinstance(x, Size) else integers(x) for x in (a, b))
    return Size(call.graph.node(operation, left, right).name)


for _python, _onnx in {"mul": "Mul", "add": "Add", "sub": "Sub", "floordiv": "Div"}.items():
    translates(f"operator.{_python}")(partial(_calculated, _onnx))


@translates("operator.getitem")
def item(call: Call, values: Any, number: int) -> Any:
    """One of several results."""
    return values[number]


@translates("aten.reshape.default", "aten.view.default", "aten._unsafe_view.default")
def reshape(call: Call, x: Any, sides: Any) -> Value:
    """The same numbers in another shape. A side that only the runtime knows is left to it."""
    unknown = [number for number, one in enumerate(sides) if isinstance(one, Size)]
    if len(unknown) == 1 and not any(one == -1 for one in sides if not isinstance(one, Size)):
        sides = [-1 if number == unknown[0] else one for number, one in enumerate(sides)]
    return call.graph.node("Reshape", x, call.shape(sides))


@translates("aten.flatten.using_ints", "aten.unflatten.int")
def reshape_as_traced(call: Call, x: Any, *_: Any) -> Value:
    """The same numbers in the shape that tracing found; at most one side may be known to the runtime only."""
    sides = [one if isinstance(one, int) else -1 for one in call.result.shape]
    return call.graph.node("Reshape", x, integers(*sides))


@translates("aten.permute.default")
def permute(call: Call, x: Any, axes: Any) -> Value:
    """Axes in another order."""
    rank = call.given(0).ndim
    return call.graph.node("Transpose", x, perm=[axis_of(axis, rank) for axis in axes])


@translates("aten.transpose.int", "aten.mT.default", "aten.t.default", "aten.swapaxes.default")
def transpose(call: Call, x: Any, first: int = -2, second: int = -1) -> Value:
    """Two axes exchanged."""
    axes = list(range(call.given(0).ndim))
    axes[first], axes[second] = axes[second], axes[first]
    return call.graph.node("Transpose", x, perm=axes)


@translates("aten.unsqueeze.default")
def unsqueeze(call: Call, x: Any, dim: int) -> Value:
    """One more axis."""
    return call.graph.node("Unsqueeze", x, integers(axis_of(dim, call.result.ndim)))


@translates("aten.squeeze.dim", "aten.squeeze.dims")
def squeeze(call: Call, x: Any, dim: Any) -> Value:
    """An axis less."""
    axes = [dim] if isinstance(dim, int) else list(dim)
    return call.graph.node("Squeeze", x, integers(*axes))


@translates("aten.expand.default", "aten.expand_as.default")
def expand(call: Call, x: Any, sides: Any, **_: Any) -> Operand:
    """Repeated along axes of length 1."""
    if isinstance(sides, Value | torch.Tensor):
        return call.graph.node("Expand", x, call.graph.node("Shape", sides))
    if [*map(str, call.given(0).shape)] == [*map(str, call.result.shape)]:
        return x  # type: ignore[no-any-return]
    return call.graph.node("Expand", x, call.shape([1 if one == -1 else one for one in sides]))


@translates("aten.slice.Tensor")
def cut(call: Call, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Operand:
    """A part along an axis."""
    first, last = start or 0, torch.iinfo(torch.int64).max if end is None else end
    length = call.given(0).shape[dim]
    if first == 0 and step == 1 and not isinstance(last, Size) and isinstance(length, int) and last >= length:
        return x  # type: ignore[no-any-return]
    bounds = (Value(one.name) if isinstance(one, Size) else integers(one) for one in (first, last))
    return call.graph.node("Slice", x, *bounds, integers(dim), integers(step))


@translates("aten.select.int")
def select(call: Call, x: Any, dim: int, index: int) -> Value:
    """One place along an axis, which goes."""
    place = torch.tensor(index)
    return call.graph.node("Gather", x, place, axis=axis_of(dim, call.given(0).ndim))


@translates("aten.chunk.default", "aten.split.Tensor", "aten.split_with_sizes.default", "aten.unbind.int")
def split(call: Call, x: Any, parts: Any = None, dim: int = 0) -> tuple[Value, ...]:
    """Parts along an axis."""
    name = str(call.node.target)
    if "unbind" in name:
        axis = axis_of(parts or 0, call.given(0).ndim)
        return tuple(call.graph.node("Gather", x, torch.tensor(place), axis=axis) for place in range(len(call.result)))
    axis = axis_of(dim, call.given(0).ndim)
    lengths = integers(*(part.shape[axis] for part in call.result))
    return call.graph.nodes_of("Split", x, lengths, count=len(call.result), axis=axis)


@translates("aten.cat.default")
def concat(call: Call, parts: Any, dim: int = 0) -> Value:
    """Tensors one after the other."""
    return call.graph.node("Concat", *parts, axis=axis_of(dim, call.result.ndim))


@translates("aten.stack.default")
def stack(call: Call, parts: Any, dim: int = 0) -> Value:
    """Tensors along a new axis."""
    axis = axis_of(dim, call.result.ndim)
    return call.graph.node("Concat", *(call.graph.node("Unsqueeze", x, integers(axis)) for x in parts), axis=axis)


@translates("aten.flip.default")
def flip(call: Call, x: Any, axes: Any) -> Value:
    """The other way round along axes."""
    ends = integers(*([-1] * len(axes))), integers(*([torch.iinfo(torch.int64).min] * len(axes)))
    return call.graph.node("Slice", x, *ends, integers(*axes), integers(*([-1] * len(axes))))


@translates("aten.pad.default", "aten.constant_pad_nd.default")
def pad(call: Call, x: Any, sides: Any, mode: Any = "constant", value: float | None = None) -> Value:
    """A constant around the last axes."""
    if isinstance(mode, int | float):  # the second name has the value in this place
        mode, value = "constant", mode
    if mode != "constant":
        raise Untranslatable(f"padding of the kind {mode}")
    pairs = list(zip(sides[0::2], sides[1::2], strict=True))[::-1]
    axes = [axis - len(pairs) for axis in range(len(pairs))]
    widths = integers(*(first for first, _ in pairs), *(last for _, last in pairs))
    return call.graph.node("Pad", x, widths, call.constant(value or 0.0), integers(*axes))


@translates("aten.index_select.default")
def index_select(call: Call, x: Any, dim: int, index: Any) -> Value:
    """Some places along an axis."""
    return call.graph.node("Gather", x, index, axis=axis_of(dim, call.given(0).ndim), name="rows")


@translates("aten.gather.default")
def gather(call: Call, x: Any, dim: int, index: Any, **_: Any) -> Value:
    """For each place an element of its own."""
    return call.graph.node("GatherElements", x, index, axis=axis_of(dim, call.given(0).ndim))


@translates("aten.index.Tensor")
def index(call: Call, x: Any, indices: Any) -> Value:
    """Elements at pairs of positions in the first axes."""
    if any(one is None for one in indices):
        raise Untranslatable("an index that leaves out an axis")
    places = [call.graph.node("Unsqueeze", one, integers(-1)) for one in indices]
    return call.graph.node("GatherND", x, call.graph.node("Concat", *places, axis=-1))


@translates("aten.scatter.src", "aten.scatter.value", "aten.scatter_add.default", "aten.scatter_reduce.two")
def scatter(
    call: Call, x: Any, dim: int, index: Any, source: Any, reduce: str | None = None, *, include_self: bool = True
) -> Value:
    """Write or join elements at places of their own."""
    name, graph = str(call.node.target), call.graph
    kind = "add" if "scatter_add" in name else {None: "none", "amax": "max", "amin": "min"}[reduce]
    if "value" in name:
        source = graph.node("Expand", call.constant(source), graph.node("Shape", index))
    elif isinstance(source, torch.Tensor):
        source = source.expand(call.given(2).shape) if call.given(2).shape != source.shape else source
    axis = axis_of(dim, call.given(0).ndim)
    return graph.node("ScatterElements", x, index, source, axis=axis, reduction=kind, name="scatter")


@translates("aten.searchsorted.Tensor")
def searchsorted(call: Call, ascending: Any, wanted: Any, *, right: bool = False, **_: Any) -> Value:
    """How many are smaller than each."""
    return match.searched(call.graph, ascending, wanted, right=right)


@translates("aten.full.default", "aten.new_full.default", "aten.full_like.default")
def full(call: Call, *given: Any, **_: Any) -> Value:
    """A number everywhere."""
    shape, number = given[-2:]
    return _filled(call, shape, number)


@translates("aten.zeros.default", "aten.new_zeros.default", "aten.zeros_like.default", "aten.empty_like.default")
def zeros(call: Call, *given: Any, **_: Any) -> Value:
    """Zeros everywhere; also where PyTorch leaves numbers open, because they are overwritten."""
    return _filled(call, given[-1], 0)


@translates("aten.ones.default", "aten.new_ones.default", "aten.ones_like.default")
def ones(call: Call, *given: Any, **_: Any) -> Value:
    """Ones everywhere."""
    return _filled(call, given[-1], 1)


def _filled(call: Call, shape: Any, number: float) -> Value:
    sides = call.graph.node("Shape", shape) if isinstance(shape, Value | torch.Tensor) else call.shape(shape)
    return call.graph.node("Expand", torch.tensor(number, dtype=call.result.dtype), sides, name="filled")


@translates("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def arange(call: Call, *bounds: Any, **_: Any) -> Value:
    """Whole numbers up to a number of images that only the runtime knows."""
    if len(bounds) != 1:
        raise Untranslatable("counting from another number than 0")
    return call.graph.node("Range", torch.tensor(0), call.graph.node("Squeeze", Value(bounds[0].name)), torch.tensor(1))


@translates("aten.to.dtype", "aten._to_copy.default", "aten.to.dtype_layout", "aten.type_as.default", "aten.to.device")
def convert(call: Call, x: Any, *_: Any, **__: Any) -> Operand:
    """In another type."""
    return x if call.given(0).dtype == call.result.dtype else cast(call, x, call.result.dtype)


@translates(
    "aten._assert_scalar.default",
    "aten._assert_tensor_metadata.default",
    "aten.sym_constrain_range_for_size.default",
    *(f"operator.{name}" for name in ("ge", "le", "gt", "lt", "eq", "ne")),
)
def checked(call: Call, *_: Any, **__: Any) -> None:
    """What tracing has checked about sizes and types: a graph has these built in."""


@translates(
    "aten.contiguous.default",
    "aten.clone.default",
    "aten.detach.default",
    "aten.detach_.default",
    "aten.alias.default",
    "aten.lift_fresh_copy.default",
    "aten.dropout.default",
    "aten.expand_copy.default",
)
def same(call: Call, x: Any, *_: Any, **__: Any) -> Any:
    """The same: where numbers lie in memory is the runtime's business, and dropout is off."""
    return x
