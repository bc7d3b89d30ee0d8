"""Moving rows in ONNX: positions are int64, ``(b, n)``, as everywhere in the package."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rmeeto.exporting.lowering.graph import INT64_MAX, Graph, Operand, Value, integers
from rmeeto.ops.rows import patch_positions as known_positions


def take(graph: Graph, values: Operand, index: Operand) -> Value:
    """Rows ``values[i, index[i, j]]``: ``(b, l, …)`` and ``(b, m)`` give ``(b, m, …)``."""
    places = graph.node("Unsqueeze", index, integers(-1))
    return graph.node("GatherND", values, places, batch_dims=1, name="rows")


def cut(graph: Graph, values: Operand, first: int, end: int, *, axis: int, step: int = 1) -> Operand:
    """``values[first:end:step]`` along an axis."""
    if not isinstance(values, Value):
        return values[(slice(None),) * axis + (slice(first, end, step),)]
    bounds = (integers(first), integers(end), integers(axis), integers(step))
    return graph.node("Slice", values, *bounds)


def every_second(graph: Graph, positions: Operand, first: int) -> Operand:
    """``positions[:, first::2]``."""
    return cut(graph, positions, first, INT64_MAX, axis=1, step=2)


def ranks(graph: Graph, score: Operand, length: int, *, descending: bool) -> Value:
    """How many of ``(b, n)`` scores stand before each: int64 ``(b, n)``, equal ones by place.

    A count of comparisons instead of ``TopK`` or a sort: it has the same result in every runtime, for equal scores too.
    """
    own = graph.node("Unsqueeze", score, integers(2))
    other = graph.node("Unsqueeze", score, integers(1))
    before = graph.node("Greater" if descending else "Less", other, own)
    place = np.arange(length, dtype=np.int64)[None]
    earlier = graph.node("Greater", place[:, :, None], place[:, None, :])  # stored, it would take a byte for each pair
    tied = graph.node("And", graph.node("Equal", other, own), earlier)
    return count(graph, graph.node("Or", before, tied), name="rank")


def count(graph: Graph, truths: Operand, *, name: str = "count") -> Value:
    """How many along the last axis are true, int64."""
    numbers = graph.node("Cast", truths, to=7)  # INT64
    return graph.node("ReduceSum", numbers, integers(-1), keepdims=0, name=name)


def order(graph: Graph, score: Operand, length: int, *, descending: bool) -> Value:
    """The places of ``(b, n)`` scores in sorted order, equal ones by place: int64 ``(b, n)``."""
    rank = ranks(graph, score, length, descending=descending)
    return inverse(graph, rank, length)


def inverse(graph: Graph, permutation: Operand, length: int) -> Value:
    """The inverse of ``(b, n)`` permutations.

    What is written into is not what is read, so that no runtime can overwrite positions that it has yet to read.
    """
    empty, places = (like(graph, permutation, row[None]) for row in (np.zeros(length, np.int64), np.arange(length)))
    return graph.node("ScatterElements", empty, permutation, places, axis=1, name="order")


def like(graph: Graph, shaped: Operand, row: Operand) -> Value:
    """``(1, n)`` numbers repeated for every image of ``shaped (b, n)``."""
    return graph.node("Expand", row, graph.node("Shape", shaped))


def for_each_image(graph: Graph, shaped: Operand, row: NDArray[np.int64]) -> Value:
    """``(1, n)`` numbers repeated for every image of ``shaped (b, …)``."""
    images = graph.node("Shape", shaped, start=0, end=1)
    return graph.node("Expand", row, graph.node("Concat", images, integers(row.shape[1]), axis=0))


def patch_positions(graph: Graph, protected: Operand, length: int, count_of_protected: int) -> Operand:
    """``(b, l - p)``: the positions of all tokens but the ``(b, p)`` protected ones, ascending.

    The comparisons are added one by one: OpenVINO 2026.4 loses the addition behind a sum of whole numbers.
    """
    if isinstance(protected, Tensor):
        return known_positions(protected, length)
    index = np.arange(length - count_of_protected, dtype=np.int64)
    if count_of_protected == 0:
        return for_each_image(graph, protected, index[None])
    if count_of_protected > 1:
        places = order(graph, protected, count_of_protected, descending=False)
        protected = graph.node("GatherElements", protected, places, axis=1)
    before = graph.node("Sub", protected, np.arange(count_of_protected, dtype=np.int64)[None])
    patches: Operand = index[None]
    for number in range(count_of_protected):
        one = cut(graph, before, number, number + 1, axis=1)
        behind = graph.node("Cast", graph.node("GreaterOrEqual", index[None], one), to=7)  # INT64
        patches = graph.node("Add", patches, behind, name="patches")
    return patches
