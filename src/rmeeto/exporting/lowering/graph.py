"""The ONNX graph that is being written: nodes, constants and their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

OPSET = 20
IR_VERSION = 10  # the newest that readers of opset 20 are sure to know
INT64_MIN, INT64_MAX = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True)
class Value:
    """Something that the graph computes: the name under which other nodes read it."""

    name: str


@dataclass(frozen=True)
class Size:
    """A number of images that only the runtime knows, as the name of an int64 tensor of shape ``(1,)``."""

    name: str


Operand = Value | Tensor | NDArray[Any]
DTYPES: dict[torch.dtype, int] = {
    torch.float32: TensorProto.FLOAT,
    torch.int64: TensorProto.INT64,
    torch.int32: TensorProto.INT32,
    torch.bool: TensorProto.BOOL,
}


class Graph:
    """Nodes in the order in which they run.

    The same operation on the same operands is one node. ``place`` names what is being written (``block07``); the names
    of nodes, and of what they compute, begin with it.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.place = ""
        self._names: Counter[str] = Counter()
        self._known: dict[Any, tuple[Value, ...]] = {}
        self._stored: dict[Any, str] = {}
        self._held: list[Any] = []  # so that no other object takes the identity of one that is known
        self._titles: dict[int, str] = {}
        self._transposed: dict[int, Tensor] = {}

    def reserve(self, *names: str) -> None:
        """Keep names for inputs and results."""
        self._names.update(names)

    def title(self, weight: Tensor, name: str) -> None:
        """Store a weight under its name in the model, if it is read."""
        self._held.append(weight)
        self._titles[id(weight)] = name

    def title_of(self, weight: object) -> str | None:
        """The name under which a weight is stored; None if it has none, and is then called by its shape."""
        return self._titles.get(id(weight))

    def layer(self, weight: object) -> str | None:
        """The name of the layer that a weight belongs to, ``in_proj``; None for a tensor without a name."""
        title = self.title_of(weight)
        return None if title is None or "." not in title else title.split(".")[-2]

    def transposed(self, weight: Tensor) -> Tensor:
        """A matrix the other way round, once, under the same name."""
        if id(weight) not in self._transposed:
            turned = weight.detach().t().contiguous()
            self._transposed[id(weight)] = turned
            self._held.append(weight)
            self.title(turned, self.title_of(weight) or "matrix")
        return self._transposed[id(weight)]

    def node(self, operation: str, *operands: Operand, name: str | None = None, **attributes: Any) -> Value:
        """One operation with one result. name: of its last part; by default that of the operation."""
        (value,) = self.nodes_of(operation, *operands, count=1, name=name, **attributes)
        return value

    def nodes_of(
        self, operation: str, *operands: Operand, count: int, name: str | None = None, **attributes: Any
    ) -> tuple[Value, ...]:
        """One operation with ``count`` results."""
        inputs = [self.read(operand) for operand in operands]
        key = (operation, tuple(inputs), count, repr(sorted(attributes.items())))
        graphs = any(isinstance(value, onnx.GraphProto) for value in attributes.values())
        if key in self._known and not graphs:
            return self._known[key]
        own = self._unused(self._full_name(name or operation.lower()))
        outputs = [own, *(f"{own}:{number}" for number in range(1, count))]
        self.nodes.append(helper.make_node(operation, inputs, outputs, name=own, **attributes))
        self._known[key] = tuple(map(Value, outputs))
        return self._known[key]

    def read(self, operand: Operand) -> str:
        """The name under which nodes read an operand. A constant is stored."""
        if isinstance(operand, Value):
            return operand.name
        self._held.append(operand)
        name = self._titles.get(id(operand))
        if id(operand) in self._stored:
            return self._stored[id(operand)]
        array = as_array(operand)
        content = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 64 and name is None else None
        if content is not None and content in self._stored:
            return self._stored[content]
        stored = self._unused(name or f"constant/{'x'.join(map(str, array.shape)) or 'scalar'}")
        self.constants[stored] = array
        self._stored[id(operand)] = stored
        if content is not None:
            self._stored[content] = stored
        return stored

    def _full_name(self, name: str) -> str:
        """A name with the place before it; a layer that is called by its own name is named once."""
        if self.place.split("/")[-1] == name:
            return self.place
        return f"{self.place}/{name}" if self.place else name

    def _unused(self, name: str) -> str:
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}_{self._names[name]}"

    def model(self, given: onnx.ValueInfoProto, results: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """The model that computes ``results`` from ``given``, without what they do not need."""
        nodes = needed(self.nodes, {result.name for result in results})
        read = {name for node in nodes for name in names_read(node)}
        constants = [numpy_helper.from_array(array, name) for name, array in self.constants.items() if name in read]
        graph = helper.make_graph(nodes, "rmeeto", [given], list(results), constants)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="rmeeto"
        )


def as_array(operand: Tensor | NDArray[Any]) -> NDArray[Any]:
    """A constant as NumPy holds it, contiguous."""
    array = operand.detach().cpu().numpy() if isinstance(operand, Tensor) else np.asarray(operand)
    return np.ascontiguousarray(array).reshape(array.shape)  # a scalar stays one


def names_read(node: onnx.NodeProto) -> Iterable[str]:
    """What a node reads, the graphs inside of it included."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from names_read(inner)


def needed(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """The nodes on which the wanted values depend, in the same order."""
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted = wanted | set(names_read(node))
    return kept[::-1]


def integers(*numbers: int) -> NDArray[np.int64]:
    """Axes, shapes and bounds as ONNX takes them."""
    return np.array(numbers, dtype=np.int64)


def element_type(dtype: torch.dtype) -> int:
    """ONNX's number for a type of PyTorch's."""
    number: int = DTYPES[dtype]
    return number
