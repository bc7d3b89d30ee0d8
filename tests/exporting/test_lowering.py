"""A traced model in ONNX: it decides what the model decides and computes its logits, with standard operators only."""

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from rmeeto.errors import ConfigError  # noqa: E402
from rmeeto.exporting.lowering import OPSET, lower  # noqa: E402
from rmeeto.exporting.trace import trace  # noqa: E402
from tiny_exports import SIZES, images_of, transformer, video, vim, with_registers  # noqa: E402

CASES = [
    (vim, None, 1),
    (vim, "merge:r=3", 2),
    (vim, "merge:r=2,features=delta,distance=l1,op=max,order=dropped,stretch=0.5", 1),
    (vim, "merge:r=2,order=odd-even,grouping=front-behind,nth=3,op=mean,distance=l2", None),
    (vim, "merge:r=2,window=3,features=B,op=min", 1),
    (vim, "merge:r=2,features=C,slope=-1,blocks=all", 2),
    (vim, "prune:r=3", 2),
    (vim, "stm:r=3", 1),
    (with_registers, "merge:r=3", 2),
    (video, "merge:r=5,frames=0,nth=2", None),
    (transformer, "merge:r=4,features=K,blocks=all", None),
    (transformer, "stm:r=3,features=V,blocks=all", 1),
]


def run(model, images):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.numpy()})


@pytest.mark.parametrize(("build", "line", "batch"), CASES)
def test_the_graph_decides_and_computes_what_the_model_does(build, line, batch):
    model = build(line)
    lowered = lower(trace(model, batch))
    file = lowered.model(*lowered.results)
    onnx.checker.check_model(file, full_check=True)
    images = images_of(model, batch or 3)
    found = dict(zip(lowered.results, run(file, images), strict=True))
    with torch.inference_mode():
        traced = model.trace(images)
    last = traced.blocks[-1]
    places = [found[name] for name in found if name.endswith("/place")]
    assert len(places) == len(last.plans)
    for place, plan in zip(places, last.plans, strict=True):
        np.testing.assert_array_equal(place, plan.assignment())
    np.testing.assert_array_equal(found["source_map"], last.group())
    np.testing.assert_allclose(found["logits"], traced.logits, rtol=0, atol=2e-5 * float(traced.logits.abs().max()))


@pytest.fixture(scope="module")
def lowered():
    return lower(trace(vim("merge:r=3")))


@pytest.fixture
def reduced(lowered):
    return lowered.model("logits")


def test_all_operators_are_standard_ones_of_one_opset(reduced):
    assert {node.domain for node in reduced.graph.node} == {""}
    assert [(opset.domain, opset.version) for opset in reduced.opset_import] == [("", OPSET)]


def test_a_block_has_one_scan_with_both_directions_and_a_name(reduced):
    scans = [node for node in reduced.graph.node if node.op_type == "Scan"]
    assert [node.name for node in scans] == [f"block{block:02d}/scan" for block in range(SIZES["depth"])]
    for node in scans:
        (body,) = (one.g for one in node.attribute if one.name == "body")
        assert [inner.op_type for inner in body.node] == ["Mul", "Exp", "Mul", "Mul", "Add", "MatMul"]
        decay = next(tensor for tensor in reduced.graph.initializer if tensor.name == body.node[0].input[1])
        assert decay.name == node.name.replace("scan", "A")
        assert decay.dims[0] == 2


def test_names_say_where_a_node_belongs(reduced):
    names = {node.name for node in reduced.graph.node}
    assert {"block01/in_proj", "block02/reduce/partner", "block02/reduce/merged", "head", "head/bias"} <= names
    assert all(node.name for node in reduced.graph.node)


def test_weights_keep_their_names_and_are_stored_once(reduced):
    stored = {tensor.name: list(tensor.dims) for tensor in reduced.graph.initializer}
    assert stored["layers.1.mixer.in_proj.weight"] == [16, 64]  # the other way round, as MatMul reads it
    weights = sum(parameter.numel() * 4 for parameter in vim().parameters())
    assert len(reduced.SerializeToString()) < weights + 5_000_000


def test_the_graph_without_the_map_does_not_compute_it(lowered):
    assert len(lowered.model("logits").graph.node) < len(lowered.model("logits", "source_map").graph.node)


def test_an_operation_without_a_translation_is_named():
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.erfinv(x.tanh() / 2)

    from rmeeto.errors import ConfigError

    model = vim(depth=1)
    model.head_drop = Odd()
    with pytest.raises(ConfigError, match=r"aten\.erfinv"):
        lower(trace(model))


class Mirrored(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.pad(x, (1, 0), mode="reflect")[:, 1:]


class Rare(torch.nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


@pytest.mark.parametrize(
    ("layer", "words"), [(Mirrored(), "padding of the kind reflect"), (Rare(), "there is no translation of it")]
)
def test_a_layer_that_onnx_cannot_have_is_named_with_its_reason(layer, words):
    model = transformer("merge:r=4,features=K,blocks=all")
    model.head = torch.nn.Sequential(model.head, layer)
    with pytest.raises(ConfigError, match=words) as caught:
        lower(trace(model))
    assert "head calls aten." in caught.value.given
    assert "pt2" in caught.value.fix
