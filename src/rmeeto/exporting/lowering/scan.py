"""The selective scan as one ONNX ``Scan``: both directions of a block walk in one loop."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import TensorProto, helper
from torch import Tensor

from rmeeto.exporting.lowering.graph import Graph, Operand, Value, as_array, integers
from rmeeto.ops.operands import ScanOperands

Walk = tuple[ScanOperands, bool]
State = tuple[int | None, int, int]


def scan(graph: Graph, walks: Sequence[Walk], shape: State, *, softplus: bool) -> list[Value]:
    """What each walk gives before skip and gate, ``(b, l, e)``.

    walks: the operands of each, without skip and gate, and whether it begins at the last token. shape: of a state,
    ``(b, n, e)``, with None if only the runtime knows the number of images. One loop over the tokens has a state for
    each walk. Channels lie side by side in it, so that no operation repeats single numbers along the last axis: ONNX
    Runtime takes half the time of a state ``(b, e, n)``. Δ·A becomes the decay inside of the loop, so that no
    ``(b, l, n, e)`` stands in memory, and the state is read by a product of matrices.
    """
    inputs: list[Value] = []
    decays: list[str] = []
    for operands, _ in walks:
        delta = steps(graph, operands, softplus=softplus)
        drive = graph.node("Mul", delta, operands.u)
        rows = (token_major(graph, x, 2) for x in (delta, drive))
        B, C = token_major(graph, operands.B, 3), token_major(graph, operands.C, 2)
        inputs += [*rows, B, C]
        decays.append(graph.read(graph.transposed(operands.A)))
    empty = [_empty_state(graph, operands, shape) for operands, _ in walks]
    backward = [int(reverse) for _, reverse in walks]
    directions = [side for side in backward for _ in range(4)]
    found = graph.nodes_of(
        "Scan",
        *empty,
        *inputs,
        count=2 * len(walks),
        name="scan",
        body=_body(decays),
        num_scan_inputs=len(inputs),
        scan_input_directions=directions,
        scan_output_directions=backward,
    )
    return [batch_major(graph, y) for y in found[len(walks) :]]


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
    """``(b, l, f)`` as ``(l, b, f, 1)`` or ``(l, b, 1, f)``: the loop takes one token at a time."""
    return graph.node("Unsqueeze", graph.node("Transpose", x, perm=[1, 0, 2]), integers(axis))


def batch_major(graph: Graph, y: Operand) -> Value:
    """``(l, b, 1, e)`` as ``(b, l, e)``."""
    return graph.node("Transpose", graph.node("Squeeze", y, integers(2)), perm=[1, 0, 2])


def _empty_state(graph: Graph, operands: ScanOperands, shape: State) -> Value:
    """Zeros ``(b, n, e)``."""
    images, *others = shape[0], shape[1], shape[2]
    full: Operand = integers(*others)
    if images is None:
        full = graph.node("Concat", graph.node("Shape", operands.u, start=0, end=1), full, axis=0)
    else:
        full = integers(images, *others)
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    return graph.node("ConstantOfShape", full, value=zero, name="empty_state")


def _body(decays: Sequence[str]) -> object:
    """One token of every walk: ``h = exp(Δ A) h + Δ u B`` and ``y = C h``. A is read from the graph around."""
    nodes, states, given, after, results = [], [], [], [], []
    for side, decay in enumerate(decays):
        h, delta, drive, B, C, y = (f"{name}{side}" for name in ("h", "delta", "drive", "B", "C", "y"))
        nodes += [
            helper.make_node("Mul", [delta, decay], [f"{delta}A"]),
            helper.make_node("Exp", [f"{delta}A"], [f"decay{side}"]),
            helper.make_node("Mul", [f"decay{side}", h], [f"kept{side}"]),
            helper.make_node("Mul", [drive, B], [f"entering{side}"]),
            helper.make_node("Add", [f"kept{side}", f"entering{side}"], [f"{h}_next"]),
            helper.make_node("MatMul", [C, f"{h}_next"], [y]),
        ]
        states.append(_of_rank_3(h))
        given += [_of_rank_3(name) for name in (delta, drive, B, C)]
        after.append(_of_rank_3(f"{h}_next"))
        results.append(_of_rank_3(y))
    return helper.make_graph(nodes, "token", [*states, *given], [*after, *results])


def _of_rank_3(name: str) -> object:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None, None])


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
