"""The selective scan as one ONNX ``Scan``: both directions of a block walk in one loop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from onnx import GraphProto, TensorProto, ValueInfoProto, helper
from torch import Tensor

from rmeeto.exporting.lowering.graph import INT64_MIN, Graph, Operand, Value, as_array, integers
from rmeeto.ops.operands import ScanOperands

Walk = tuple[ScanOperands, bool]
State = tuple[int | None, int, int]


def scan(graph: Graph, walks: Sequence[Walk], shape: State, *, softplus: bool) -> list[Value]:
    """What each walk gives before skip and gate, ``(b, l, e)``.

    walks: the operands of each, without skip and gate, and whether it begins at the last token. shape: of a state,
    ``(b, n, e)``, with None if only the runtime knows the number of images.

    One loop over the tokens has one state ``(b, w, n, e)`` for all w walks. Those that begin at the last token are
    turned round before it and after it. Half the nodes in the loop are worth more than that costs: OpenVINO takes three
    quarters of the time that it takes with a state for each. Channels lie side by side, so that no operation repeats
    single numbers along the last axis: ONNX Runtime takes half the time of a state ``(b, e, n)``. Δ·A becomes the decay
    inside of the loop, so that no ``(b, l, n, e)`` stands in memory, and the state is read by a product of matrices.
    """
    ways = [backward for _, backward in walks]
    rows: dict[str, list[Operand]] = {"delta": [], "drive": [], "B": [], "C": []}
    for operands, _ in walks:
        delta = steps(graph, operands, softplus=softplus)
        drive = graph.node("Mul", delta, operands.u)
        for name, x in (("delta", delta), ("drive", drive), ("B", operands.B), ("C", operands.C)):
            rows[name].append(x)
    columns = {"delta": 3, "drive": 3, "B": 4, "C": 3}
    inputs = [token_major(graph, stacked(graph, rows[name], ways), axis) for name, axis in columns.items()]
    A = torch.stack([operands.A.detach().t() for operands, _ in walks])
    graph.title(A, f"{graph.place}/A")
    _, y = graph.nodes_of(
        "Scan",
        _empty_state(graph, walks[0][0], len(walks), shape),
        *inputs,
        count=2,
        name="scan",
        body=_body(graph.read(A)),
        num_scan_inputs=len(inputs),
    )
    return unstacked(graph, batch_major(graph, y), ways)


def stacked(graph: Graph, rows: Sequence[Operand], ways: Sequence[bool]) -> Value:
    """Each walk's ``(b, l, f)`` in the order in which it meets the tokens, together ``(b, l, w, f)``."""
    met = (turned(graph, x) if backward else x for x, backward in zip(rows, ways, strict=True))
    return graph.node("Concat", *(graph.node("Unsqueeze", x, integers(2)) for x in met), axis=2)


def unstacked(graph: Graph, y: Operand, ways: Sequence[bool]) -> list[Value]:
    """``(b, l, w, e)`` as each walk's ``(b, l, e)`` in the order of the tokens."""
    each = [graph.node("Gather", y, as_array(integers(way)).reshape(()), axis=2) for way in range(len(ways))]
    return [turned(graph, x) if backward else x for x, backward in zip(each, ways, strict=True)]


def turned(graph: Graph, x: Operand) -> Value:
    """``(b, l, f)`` with the last token first."""
    return graph.node("Slice", x, integers(-1), integers(INT64_MIN), integers(1), integers(-1), name="turned")


def steps(graph: Graph, operands: ScanOperands, *, softplus: bool) -> Value | Operand:
    """Δ with its bias, after softplus."""
    delta: Operand = operands.delta
    if operands.delta_bias is not None and not is_zero(operands.delta_bias):
        delta = graph.node("Add", delta, operands.delta_bias)
    return graph.node("Softplus", delta, name="delta") if softplus else delta


def is_zero(operand: Operand) -> bool:
    """Whether an operand is a constant without a number other than 0."""
    return not isinstance(operand, Value) and not bool((as_array(operand) != 0).any())


def token_major(graph: Graph, x: Operand, axis: int) -> Value:
    """``(b, l, w, f)`` as ``(l, b, w, f, 1)`` or ``(l, b, w, 1, f)``: the loop takes one token at a time."""
    return graph.node("Unsqueeze", graph.node("Transpose", x, perm=[1, 0, 2, 3]), integers(axis))


def batch_major(graph: Graph, y: Operand) -> Value:
    """``(l, b, w, 1, e)`` as ``(b, l, w, e)``."""
    return graph.node("Transpose", graph.node("Squeeze", y, integers(3)), perm=[1, 0, 2, 3])


def _empty_state(graph: Graph, operands: ScanOperands, walks: int, shape: State) -> Value:
    """Zeros ``(b, w, n, e)``."""
    images, *others = shape
    full: Operand = integers(walks, *others)
    number = graph.node("Shape", operands.u, start=0, end=1) if images is None else integers(images)
    full = graph.node("Concat", number, full, axis=0)
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    return graph.node("ConstantOfShape", full, value=zero, name="empty_state")


def _body(A: str) -> GraphProto:
    """One token of every walk: ``h = exp(Δ A) h + Δ u B`` and ``y = C h``. A is ``(w, n, e)``, of the graph around."""
    nodes = [
        helper.make_node("Mul", ["delta", A], ["deltaA"]),
        helper.make_node("Exp", ["deltaA"], ["decay"]),
        helper.make_node("Mul", ["decay", "h"], ["kept"]),
        helper.make_node("Mul", ["drive", "B"], ["entering"]),
        helper.make_node("Add", ["kept", "entering"], ["h_next"]),
        helper.make_node("MatMul", ["C", "h_next"], ["y"]),
    ]
    given = [_of_rank_4(name) for name in ("h", "delta", "drive", "B", "C")]
    return helper.make_graph(nodes, "token", given, [_of_rank_4(name) for name in ("h_next", "y")])


def _of_rank_4(name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None, None, None])


def gated(graph: Graph, y: Operand, skips: Sequence[tuple[Operand, Operand]], gate: Operand | None) -> Value | Operand:
    """Add what each skip passes by, ``skip · u``, and multiply by SiLU of the gate."""
    for skip, u in skips:
        y = graph.node("Add", y, graph.node("Mul", u, skip, name="skip"))
    return y if gate is None else graph.node("Mul", y, silu(graph, gate), name="gated")


def silu(graph: Graph, x: Operand) -> Value:
    """``x · sigmoid(x)``."""
    return graph.node("Mul", x, graph.node("Sigmoid", x), name="silu")


def causal_conv(
    graph: Graph, x: Operand, weight: Tensor, bias: Operand | None, *, activate: bool, reverse: bool
) -> Value:
    """A depthwise convolution of ``(b, l, e)`` along the tokens that looks back, or ahead in ``reverse``."""
    channels, _, width = weight.shape
    kernel = weight.flip(-1) if reverse else weight
    graph.title(kernel, graph.title_of(weight) or "conv1d.weight")
    pads = [0, width - 1] if reverse else [width - 1, 0]
    rows = graph.node("Transpose", x, perm=[0, 2, 1])
    operands = (rows, kernel) if bias is None else (rows, kernel, bias)
    y = graph.node("Conv", *operands, group=channels, kernel_shape=[width], pads=pads, name="conv1d")
    y = graph.node("Transpose", y, perm=[0, 2, 1])
    return silu(graph, y) if activate else y
