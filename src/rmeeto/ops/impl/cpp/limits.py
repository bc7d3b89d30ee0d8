"""What the kernels cannot take, in words."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rmeeto.ops.impl.cpp.operands import is_readable

MAX_STATES = 16
WIDTHS = (2, 3, 4)
# Operands stored per token; the others are parameters.
TOKENS = {"u", "delta", "B", "C", "gate", "x", "residual", "a", "b", "features"}


def unsupported_reasons(op_name: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return why the kernels cannot take these tensors; empty if they can."""
    reasons = []
    lead = next(iter(tensors.values()))
    if any(not x.is_cpu for x in tensors.values()):
        reasons.append("the C++ kernels read processor memory only")
    if op_name == "lay_out":
        return reasons  # positions alone
    if op_name == "mamba_block":
        return reasons + _block_reasons(tensors)
    if any(x.dtype != lead.dtype for name, x in tensors.items() if name in TOKENS):
        reasons.append("the C++ kernels take all tokens in the same dtype")
    elif not is_readable(lead.dtype):
        reasons.append("the C++ kernels take tokens in float32 or bfloat16, and float16 by way of float32")
    if op_name == "selective_scan" and tensors["A"].shape[1] > MAX_STATES:
        reasons.append(f"the C++ kernels hold at most {MAX_STATES} states, not {tensors['A'].shape[1]}")
    if op_name == "causal_conv" and tensors["weight"].shape[2] not in WIDTHS:
        reasons.append(f"the C++ kernels convolve with 2 to 4 taps, not {tensors['weight'].shape[2]}")
    return reasons


def _block_reasons(tensors: Mapping[str, Tensor]) -> list[str]:
    reasons, (states, width) = [], (tensors["A"].shape[1], tensors["conv_weight"].shape[2])
    if any(x.dtype != torch.float32 for x in tensors.values()):
        reasons.append("the C++ kernels compute a whole block in float32, unless its weights are packed")
    if not all(x.is_contiguous() for name, x in tensors.items() if name not in TOKENS):
        reasons.append("the C++ kernels of a whole block take contiguous parameters")
    if not tensors["x"].numel():
        reasons.append("the C++ kernels of a whole block take at least one image")
    if states > MAX_STATES or width not in WIDTHS:
        reasons.append(f"the C++ kernels take up to {MAX_STATES} states and 2 to 4 taps, not {states} and {width}")
    return reasons
