"""The walk over a traced program: every call is computed now, if all it reads is known, or translated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor, fx
from torch.export.graph_signature import InputKind

from rmeeto.errors import ConfigError
from rmeeto.exporting.lowering import layers, ours, plain, shapes  # noqa: F401  # they fill the table
from rmeeto.exporting.lowering.graph import Graph, Size, Value, element_type
from rmeeto.exporting.lowering.table import TRANSLATIONS, Call, Untranslatable
from rmeeto.exporting.trace import Traced

IMAGES = "images"
WRAPPED = "model."  # where the model stands in what was traced


@dataclass(frozen=True)
class Lowered:
    """A model as ONNX nodes. given: its input. results: what it can give, by name."""

    graph: Graph
    given: onnx.ValueInfoProto
    results: Mapping[str, onnx.ValueInfoProto]

    def model(self, *names: str) -> onnx.ModelProto:
        """The model that gives these results."""
        return self.graph.model(self.given, [self.results[name] for name in names])


def lower(traced: Traced) -> Lowered:
    """Translate a traced model.

    Raises:
        ConfigError: it contains an operation without a translation.
    """
    program = traced.program
    known, graph = weights_of(program), Graph()
    graph.reserve(IMAGES, *traced.results)
    values: dict[fx.Node, Any] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name in known:
                name, values[node] = known[node.name]
                graph.title(values[node], name.removeprefix(WRAPPED))
            else:
                values[node] = Value(IMAGES)
                given = information(IMAGES, node.meta["val"])
        elif node.op == "call_function":
            graph.place = place_of(node)
            values[node] = computed(graph, node, values)
        elif node.op == "output":
            found = dict(zip(traced.results, node.args[0], strict=True))
    graph.place = ""
    results = {name: named_result(graph, name, values[node], node.meta["val"]) for name, node in found.items()}
    return Lowered(graph, given, results)


def weights_of(program: torch.export.ExportedProgram) -> dict[str, tuple[str, Tensor]]:
    """Parameters, buffers and constants, each with its name in the model, by the name of their placeholder."""
    stored = {**program.state_dict, **program.constants}
    specs = (spec for spec in program.graph_signature.input_specs if spec.kind is not InputKind.USER_INPUT)
    return {spec.arg.name: (spec.target, stored[spec.target]) for spec in specs if spec.target is not None}


def computed(graph: Graph, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    """The result of a call: a constant if all operands are, otherwise what the translation gives."""
    args: Any = fx.node.map_arg(node.args, lambda one: values[one])
    kwargs: Any = fx.node.map_arg(node.kwargs, lambda one: values[one])
    operands: list[Any] = []
    fx.node.map_aggregate((args, kwargs), operands.append)
    if not any(isinstance(one, Value | Size) for one in operands):
        with torch.no_grad():
            return node.target(*args, **kwargs)  # type: ignore[operator]  # it is a function, not a name
    name = name_of(node.target)
    translation = TRANSLATIONS.get(name)
    if translation is None:
        raise untranslated(f"{graph.place} calls {name}", "there is no translation of it")
    chosen = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory", "layout")}
    try:
        return translation(Call(graph, node), *args, **chosen)
    except Untranslatable as error:
        raise untranslated(f"{graph.place} calls {name}", f"it is {error}, which has no translation") from error


def untranslated(given: str, why: str) -> ConfigError:
    """The error for a model with an operation that cannot be written in ONNX."""
    fix = "--format pt2 exports every model that PyTorch can trace"
    return ConfigError("write the model in ONNX", given=given, why=why, fix=fix)


def name_of(target: Any) -> str:
    """An operation's name in the table: ``aten.add.Tensor``, ``operator.mul``."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    return f"operator.{getattr(target, '__name__', target)}"


def place_of(node: fx.Node) -> str:
    """Where a call stands in the model, for names: ``block07``, ``block08/reduce``, ``block07/mlp``, ``norm_f``."""
    stack: Mapping[str, Any] = node.meta.get("nn_module_stack") or {}
    path = [*stack.values()][-1][0] if stack else ""
    if (step := re.match(r"reduce\.(block\d+)", path)) is not None:
        return f"{step[1]}/reduce"
    if (block := re.match(r"model\.(?:layers|blocks)\.(\d+)\.?(.*)", path)) is not None:
        rest = [part for part in block[2].split(".") if part and part != "mixer"]
        return "/".join([f"block{int(block[1]):02d}", *rest[:1]])
    return path.removeprefix("model").lstrip(".").split(".")[0]


def named_result(graph: Graph, name: str, value: Value | Tensor, meta: Tensor) -> onnx.ValueInfoProto:
    """Give a value the name under which it is a result."""
    source = graph.read(value)
    graph.nodes.append(helper.make_node("Identity", [source], [name], name=f"result/{name}"))
    return information(name, meta)


def information(name: str, meta: Tensor) -> onnx.ValueInfoProto:
    """Name, type and shape of an input or a result; a side that is free is called ``images``."""
    sides: Sequence[int | str] = [side if isinstance(side, int) else "images" for side in meta.shape]
    return helper.make_tensor_value_info(name, element_type(meta.dtype), sides)
