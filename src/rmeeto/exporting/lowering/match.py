"""Matching in ONNX: the nearest target of every candidate, and the r candidates that are nearest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rmeeto.exporting.lowering.graph import Graph, Operand, Value, integers
from rmeeto.exporting.lowering.rows import (
    count,
    cut,
    every_second,
    for_each_image,
    inverse,
    order,
    patch_positions,
    take,
)

SMALLEST_NORM = np.array(1e-12, dtype=np.float32)  # as torch.nn.functional.normalize has it
NEVER = np.array(-np.inf, dtype=np.float32)


def closest_pairs(
    graph: Graph,
    features: Operand,
    protected: Operand,
    r: int,
    distance: str,
    nth: int,
    reach: int,
    *,
    length: int,
    protected_count: int,
) -> tuple[Operand, Operand, Operand, Operand]:
    """`rmeeto.ops.closest_pairs`: source, target, ranked, targets."""
    patches = patch_positions(graph, protected, length, protected_count)
    n = length - protected_count
    candidates, targets = every_second(graph, patches, 0), every_second(graph, patches, 1)
    rows, columns = n - n // 2, n // 2
    low, high = (np.arange(rows, dtype=np.int64) + side for side in (-reach, reach))
    score, partner = nearest(
        graph,
        take(graph, features, candidates),
        take(graph, features, targets),
        (low.clip(0, columns)[None], high.clip(0, columns)[None]),
        distance,
        nth,
        columns=columns,
    )
    places = order(graph, score, rows, descending=True)
    ranked = graph.node("GatherElements", candidates, places, axis=1, name="ranked")
    chosen = cut(graph, places, 0, r, axis=1)
    target = graph.node("GatherElements", partner, chosen, axis=1)
    target = graph.node("GatherElements", targets, target, axis=1, name="target")
    return cut(graph, ranked, 0, r, axis=1), target, ranked, targets


def nearest(
    graph: Graph, a: Operand, b: Operand, seen: tuple[Operand, Operand], distance: str, nth: int, *, columns: int
) -> tuple[Value, Value]:
    """Similarity and index of each row's nth nearest column among those that it sees: ``(b, n)`` twice.

    seen: the columns [low, high) of each row, ``(b, n)`` or ``(1, n)`` within 0 … ``columns``. A row that sees none has
    similarity -∞ and the index low. Equal ones rank by index: ``ArgMax`` takes the first, and ``TopK`` too.
    """
    low, high = seen
    score = similarity(graph, a, b, distance)
    inside = _inside(graph, low, high, np.arange(columns, dtype=np.int64))
    if inside is not None:
        score = graph.node("Where", inside, score, NEVER)
    if nth == 1:
        index = graph.node("ArgMax", score, axis=2, keepdims=0, select_last_index=0, name="partner")
        best = graph.node("ReduceMax", score, integers(2), keepdims=0, name="similarity")
    else:
        best, index = _nth_best(graph, score, low, high, min(nth, columns))
    if isinstance(low, np.ndarray):  # then every row sees some
        return best, index
    nothing = graph.node("GreaterOrEqual", low, high)
    last = graph.node("Min", low, integers(columns - 1))
    return best, graph.node("Where", nothing, last, index)


def _inside(graph: Graph, low: Operand, high: Operand, column: NDArray[np.int64]) -> Operand | None:
    """Which columns each row sees, ``(b or 1, n, m)``; None if every row sees all, and nothing is hidden."""
    known = isinstance(low, np.ndarray) and isinstance(high, np.ndarray)
    if known and (low <= column[0]).all() and (high > column[-1]).all():
        return None
    return graph.node(
        "And",
        graph.node("GreaterOrEqual", column, graph.node("Unsqueeze", low, integers(2))),
        graph.node("Less", column, graph.node("Unsqueeze", high, integers(2))),
    )


def _nth_best(graph: Graph, score: Operand, low: Operand, high: Operand, nth: int) -> tuple[Value, Value]:
    """The nth best of each row, or the last of those it sees."""
    ranked = graph.nodes_of("TopK", score, integers(nth), count=2, axis=2, largest=1, sorted=1)
    if isinstance(low, np.ndarray) and isinstance(high, np.ndarray):
        place: Operand = (high - low).clip(1, nth) - 1
    else:
        choices = graph.node("Min", graph.node("Sub", high, low), integers(nth))
        place = graph.node("Sub", graph.node("Max", choices, integers(1)), integers(1))
    shape = graph.node("Shape", cut(graph, score, 0, 1, axis=2))
    place = graph.node("Expand", graph.node("Unsqueeze", place, integers(2)), shape)
    best, index = (graph.node("Squeeze", graph.node("GatherElements", x, place, axis=2), integers(2)) for x in ranked)
    return best, index


def similarity(graph: Graph, a: Operand, b: Operand, distance: str) -> Value:
    """``(b, n, m)`` cosines of rows, or minus their l1 or l2 distances."""
    if distance == "cosine":
        columns = graph.node("Transpose", unit(graph, b), perm=[0, 2, 1])
        return graph.node("MatMul", unit(graph, a), columns, name="similarities")
    apart = graph.node("Sub", graph.node("Unsqueeze", a, integers(2)), graph.node("Unsqueeze", b, integers(1)))
    operation = "ReduceL1" if distance == "l1" else "ReduceL2"
    return graph.node("Neg", graph.node(operation, apart, integers(3), keepdims=0), name="similarities")


def unit(graph: Graph, rows: Operand) -> Value:
    """Rows of length 1."""
    norm = graph.node("ReduceL2", rows, integers(-1), keepdims=1)
    return graph.node("Div", rows, graph.node("Max", norm, SMALLEST_NORM), name="unit")


def lay_out(
    graph: Graph, source: Operand, target: Operand | None, length: int, removed: int
) -> tuple[Operand, Operand]:
    """`rmeeto.ops.lay_out`: kept and place. Every position is written once, so no runtime has a choice."""
    ones = np.ones((1, length), dtype=np.int64)
    gone = graph.node("Sub", source, source)
    stays = graph.node("ScatterElements", for_each_image(graph, source, ones), source, gone, axis=1, name="stays")
    number = graph.node("CumSum", stays, integers(1).reshape(()))
    index = np.arange(length, dtype=np.int64)[None]
    place = graph.node("Sub", number, integers(1))
    behind = graph.node("Add", graph.node("Sub", index, number), integers(length - removed))
    slots = graph.node("Where", graph.node("Cast", stays, to=9), place, behind)  # BOOL
    kept = cut(graph, inverse(graph, slots, length), 0, length - removed, axis=1)
    if target is None:
        taken = graph.node("Sub", gone, integers(1))
    else:
        taken = graph.node("GatherElements", place, target, axis=1)
    return kept, graph.node("ScatterElements", place, source, taken, axis=1, name="place")


def merge_rows(
    graph: Graph, values: Operand, kept: Operand, source: Operand, target: Operand, share: Operand, *, left: int
) -> Value:
    """`rmeeto.ops.merge_rows`; the sum over the sources of a target is a product with ones and zeros."""
    out = take(graph, values, kept)
    change = graph.node("Sub", take(graph, values, source), take(graph, out, target))
    change = graph.node("Mul", change, graph.node("Unsqueeze", share, integers(2)))
    places = np.arange(left, dtype=np.int64)[None, :, None]
    ends_in = graph.node("Equal", places, graph.node("Unsqueeze", target, integers(1)))
    sums = graph.node("MatMul", graph.node("Cast", ends_in, to=1), change, name="sums")  # FLOAT
    return graph.node("Add", out, sums, name="merged")


def searched(graph: Graph, ascending: Operand, wanted: Operand, *, right: bool) -> Value:
    """`torch.searchsorted` by a count: how many of ``(b, m)`` are less than (or equal to) each of ``(b, n)``."""
    columns, rows = (graph.node("Unsqueeze", x, integers(axis)) for x, axis in ((ascending, 1), (wanted, 2)))
    return count(graph, graph.node("LessOrEqual" if right else "Less", columns, rows))
