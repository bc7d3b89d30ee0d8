"""What the kernels cannot take, in words."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rmeeto.ops.impl.triton.launch import interpreted

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_STATES = 32
MAX_TAPS = 4
MAX_NORMED = 8192  # channels: a program holds whole rows in its registers


def unsupported_reasons(op_name: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return why the kernels cannot take these tensors (by operand name, absent ones left out), if so."""
    reasons = []
    device = "cpu" if interpreted() else "cuda"
    elsewhere = [f"{name} ({x.device})" for name, x in tensors.items() if x.device.type != device]
    if elsewhere:
        where = "Triton's interpreter runs on cpu" if interpreted() else "the kernels run on CUDA devices"
        reasons.append(f"{where}, not where these are: {', '.join(elsewhere)}")
    floating = {name: x for name, x in tensors.items() if x.is_floating_point()}
    odd = [f"{name} ({str(x.dtype).removeprefix('torch.')})" for name, x in floating.items() if x.dtype not in DTYPES]
    if odd:
        reasons.append(f"the kernels take float32, bfloat16 and float16, not {', '.join(odd)}")
    if op_name == "selective_scan":
        states = tensors["A"].shape[1]
        if states > MAX_STATES or states & (states - 1) or not states:
            reasons.append(f"the number of states must be a power of two up to {MAX_STATES}, not {states}")
    elif op_name == "causal_conv":
        taps = tensors["weight"].shape[2]
        if not 1 <= taps <= MAX_TAPS:
            reasons.append(f"the convolution must have 1 to {MAX_TAPS} taps, not {taps}")
    elif op_name == "add_norm":
        width = tensors["weight"].shape[0]
        if width > MAX_NORMED:
            reasons.append(f"the norm must be over at most {MAX_NORMED} channels, not {width}")
    return reasons
