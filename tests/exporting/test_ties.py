"""Equal similarities: every runtime must decide as the operations of this package do, the first by place."""

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402

from rmeeto.exporting.lowering.graph import Graph, Value  # noqa: E402
from rmeeto.exporting.lowering.match import closest_pairs, lay_out  # noqa: E402
from rmeeto.ops import closest_pairs as ours  # noqa: E402
from rmeeto.ops import lay_out as our_layout  # noqa: E402

LENGTH, R = 13, 4


def in_onnx_runtime(file, given):
    session = ort.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, given)


def in_openvino(file, given):
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model=file.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return [compiled(given)[result] for result in compiled.outputs]


def pairs_graph(distance, nth, reach, protected):
    graph = Graph()
    names = ("source", "target", "kept", "place")
    graph.reserve("features", "protected", *names)
    features, places = Value("features"), Value("protected")
    found = closest_pairs(
        graph, features, places, R, distance, nth, reach, length=LENGTH, protected_count=protected.shape[1]
    )
    source, target, *_ = found
    kept, place = lay_out(graph, source, target, LENGTH, R)
    for name, value in zip(names, (source, target, kept, place), strict=True):
        graph.nodes.append(helper.make_node("Identity", [value.name], [name]))
    given = [
        helper.make_tensor_value_info("features", TensorProto.FLOAT, [2, LENGTH, 3]),
        helper.make_tensor_value_info("protected", TensorProto.INT64, list(protected.shape)),
    ]
    file = graph.model(given[0], [helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in names])
    file.graph.input.append(given[1])
    return file


@pytest.mark.parametrize("runtime", [in_onnx_runtime, in_openvino])
@pytest.mark.parametrize(("distance", "nth", "reach"), [("cosine", 1, LENGTH), ("l1", 1, 2), ("l2", 2, LENGTH)])
def test_equal_similarities_are_decided_by_place(runtime, distance, nth, reach):
    protected = torch.tensor([[6, 0], [3, 12]])
    # a few whole numbers, so that most similarities are equal bit for bit in any order of arithmetic
    features = torch.randint(0, 2, (2, LENGTH, 3), generator=torch.Generator().manual_seed(3)).float() + 1
    if distance == "cosine":
        features = torch.eye(3)[features[..., 0].long()]
    right = ours(features, protected, R, distance=distance, nth=nth, reach=reach, impl="reference")
    layout = our_layout(right.source, right.target, LENGTH, impl="reference")
    given = {"features": features.numpy(), "protected": protected.numpy()}
    found = runtime(pairs_graph(distance, nth, reach, protected), given)
    for one, expected in zip(found, (right.source, right.target, *layout), strict=True):
        np.testing.assert_array_equal(one, expected.numpy())
