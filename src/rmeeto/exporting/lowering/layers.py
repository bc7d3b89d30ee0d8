"""Layers of PyTorch in ONNX: products, convolutions, norms, attention."""

from __future__ import annotations

import math
from typing import Any

import torch

from rmeeto.exporting.lowering.graph import Operand, Value, integers
from rmeeto.exporting.lowering.table import Call, Untranslatable, translates


@translates("aten.linear.default")
def linear(call: Call, x: Any, weight: Any, bias: Any = None) -> Value:
    """``x Wᵀ + bias``. The transposed weight is what the file stores."""
    if isinstance(weight, torch.Tensor):
        layer = call.graph.layer(weight) or "linear"
        weight = call.graph.transposed(weight)
    else:
        layer, weight = "linear", call.graph.node("Transpose", weight, perm=[1, 0])
    y = call.graph.node("MatMul", x, weight, name=layer)
    return y if bias is None else call.graph.node("Add", y, bias, name="bias")


@translates("aten.matmul.default", "aten.bmm.default", "aten.mm.default")
def matmul(call: Call, a: Any, b: Any) -> Value:
    """A product of matrices."""
    return call.graph.node("MatMul", a, b)


@translates("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default")
def convolution(
    call: Call,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """A convolution."""
    rank = call.given(1).ndim - 2
    if not isinstance(padding, int | list | tuple):
        raise Untranslatable(f"a convolution with padding {padding}")
    pads, strides, dilations = (_each(value, rank) for value in (padding, stride, dilation))
    operands = (x, weight) if bias is None else (x, weight, bias)
    settings: dict[str, Any] = {"pads": [*pads, *pads], "strides": strides, "dilations": dilations, "group": groups}
    return call.graph.node("Conv", *operands, kernel_shape=list(call.given(1).shape[2:]), **settings)


def _each(value: Any, count: int) -> list[int]:
    given = [value] if isinstance(value, int) else list(value)
    return given * count if len(given) == 1 else given


@translates("aten.layer_norm.default")
def layer_norm(call: Call, x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any) -> Any:
    """Layer norm over the last axes."""
    weight = torch.ones(list(shape)) if weight is None else weight
    operands = (x, weight) if bias is None else (x, weight, bias)
    return call.graph.node("LayerNormalization", *operands, axis=-len(shape), epsilon=eps, name="norm")


@translates("aten.rms_norm.default")
def rms_norm(call: Call, x: Any, shape: Any, weight: Any = None, eps: float | None = None) -> Value:
    """Root mean square norm over the last axis."""
    if len(shape) != 1:
        raise Untranslatable(f"a norm over {len(shape)} axes")
    return normalised(call, x, weight, torch.finfo(torch.float32).eps if eps is None else eps)


def normalised(call: Call, x: Operand, weight: Operand | None, eps: float) -> Value:
    """``x / √(mean of squares + eps) · weight``."""
    graph = call.graph
    mean = graph.node("ReduceMean", graph.node("Mul", x, x), integers(-1), keepdims=1)
    rms = graph.node("Sqrt", graph.node("Add", mean, torch.tensor(eps, dtype=torch.float32)), name="rms")
    y = graph.node("Div", x, rms)
    return y if weight is None else graph.node("Mul", y, weight, name="norm")


@translates("aten.scaled_dot_product_attention.default")
def attention(
    call: Call,
    q: Any,
    k: Any,
    v: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Value:
    """``softmax(q kᵀ / √f + mask) v``."""
    graph, rank = call.graph, call.given(0).ndim
    if is_causal or options.get("enable_gqa"):
        raise Untranslatable("attention with a causal mask or shared keys")
    scale = options.get("scale")
    root = torch.tensor(math.sqrt(1 / math.sqrt(call.given(0).shape[-1]) if scale is None else scale))
    axes = [*range(rank - 2), rank - 1, rank - 2]
    keys = graph.node("Transpose", graph.node("Mul", k, root), perm=axes)
    weights = graph.node("MatMul", graph.node("Mul", q, root), keys, name="attention")
    if attn_mask is not None:
        weights = graph.node("Add", weights, attn_mask)
    return graph.node("MatMul", graph.node("Softmax", weights, axis=-1), v, name="attended")
