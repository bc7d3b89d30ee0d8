"""What the kernels cannot take, in words."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rmeeto.ops.impl.cpp.operands import is_readable

MAX_STATES = 16
WIDTHS = (2, 3, 4)
TOKENS = {
    "u",
    "delta",
    "B",
    "C",
    "gate",
    "x",
    "a",
    "b",
    "features",
}  # operands stored per token; the others are parameters


def unsupported_reasons(op_name: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return why the kernels cannot take these tensors; empty if they can."""
    reasons = []
    lead = next(iter(tensors.values()))
    if any(not x.is_cpu for x in tensors.values()):
        reasons.append("the C++ kernels read processor memory only")
    if op_name == "lay_out":
        return reasons  # positions alone
    if any(x.dtype != lead.dtype for name, x in tensors.items() if name in TOKENS):
        reasons.append("the C++ kernels take all tokens in the same dtype")
    elif not is_readable(lead.dtype):
        reasons.append("the C++ kernels take tokens in float32 or bfloat16, and float16 by way of float32")
    if op_name == "selective_scan" and tensors["A"].shape[1] > MAX_STATES:
        reasons.append(f"the C++ kernels hold at most {MAX_STATES} states, not {tensors['A'].shape[1]}")
    if op_name == "causal_conv" and tensors["weight"].shape[2] not in WIDTHS:
        reasons.append(f"the C++ kernels convolve with 2 to 4 taps, not {tensors['weight'].shape[2]}")
    return reasons
