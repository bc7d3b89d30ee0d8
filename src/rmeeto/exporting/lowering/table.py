"""The table of translations: from the name of a PyTorch operation to the function that writes it in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from rmeeto.exporting.lowering.graph import Graph, Operand, Size, Value, element_type, integers

Result = Any  # an Operand, a Size, or a tuple of them
Translation = Callable[..., Result]
TRANSLATIONS: dict[str, Translation] = {}


class Untranslatable(Exception):
    """A way of calling an operation that its translation refuses; the text says which, ``it is …``.

    No model that an export accepts calls it so. If one does, the export ends with an error that names block and call.
    """


@dataclass(frozen=True)
class Call:
    """One call that is being translated: the graph, and what tracing knows of its operands and its result."""

    graph: Graph
    node: fx.Node

    def given(self, number: int) -> Any:
        """What tracing knows of an operand: a tensor without values, or a plain value."""
        operand = self.node.args[number]
        return operand.meta["val"] if isinstance(operand, fx.Node) else operand

    @property
    def result(self) -> Any:
        """What tracing knows of the result: a tensor without values, or several."""
        return self.node.meta["val"]

    def constant(self, number: float, number_of: int = 0) -> Operand:
        """A plain number as a tensor of an operand's type."""
        return torch.tensor(number, dtype=self.given(number_of).dtype)

    def shape(self, sides: Any) -> Operand:
        """Sides of a shape, one of which may be known to the runtime only, as one int64 tensor."""
        parts: list[Any] = [side if isinstance(side, Size) else int(side) for side in sides]
        if not any(isinstance(part, Size) for part in parts):
            return integers(*parts)
        operands = [Value(part.name) if isinstance(part, Size) else integers(part) for part in parts]
        return self.graph.node("Concat", *operands, axis=0, name="shape")


def translates(*names: str) -> Callable[[Translation], Translation]:
    """Enter a function into the table. It is called with a :class:`Call` and the operation's arguments."""

    def enter(function: Translation) -> Translation:
        for name in names:
            TRANSLATIONS[name] = function
        return function

    return enter


def axis_of(dimension: int, rank: int) -> int:
    """An axis counted from the front."""
    return dimension % rank


def number_type(dtype: Any) -> int:
    """ONNX's number of a type, float32 where a type is left to the default."""
    return element_type(torch.float32 if dtype is None else dtype)


def is_constant(operand: object) -> bool:
    """Whether a tensor has values already."""
    return isinstance(operand, Tensor | np.ndarray)
