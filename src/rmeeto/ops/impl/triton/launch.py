"""What every launch needs: operands in a form that kernels read, and the device to launch on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from rmeeto.ops.impl.triton.walk import load

FUSED = True  # multiply-adds; explicit, because Triton is about to change its default
# Assertions of the kernels that check positions stay in, as in PyTorch's own; checks of integer overflow do not.
ASSERTING = {"debug": True, "sanitize_overflow": False}


def readable(*tensors: Tensor | None) -> list[Any]:
    """Return the tensors with neighbours of the last axis side by side; other strides stay as they are."""
    return [x if x is None or x.stride(-1) == 1 else x.contiguous() for x in tensors]


def strides(*tensors: Tensor | None) -> tuple[int, ...]:
    """Return batch and token stride of each, zeros for an absent one."""
    return tuple(s for x in tensors for s in ((0, 0) if x is None else x.stride()[:2]))


def on_device_of(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which kernels are launched on the device of ``x``, not on the current one."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def interpreted() -> bool:
    """Return whether the kernels run in Triton's interpreter, on the processor."""
    return not isinstance(load, triton.JITFunction)
