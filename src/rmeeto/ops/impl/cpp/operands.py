"""Operands as the library reads them: dtypes and distances as numbers, tensors as pointers and strides."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_void_p

import torch
from torch import Tensor

STORAGE = {torch.float32: 0, torch.bfloat16: 1}
DISTANCES = {"cosine": 0, "l1": 1, "l2": 2}
CHOICES = ("pairing", "distance", "nth", "reach", "guard")  # of a reduction by merging, in the order of its fields
Choices = tuple[int, int, int, int, int]


def within_reach(distance: str, nth: int, reach: int) -> Choices:
    """Return the choices of `rmeeto.ops.merge_closest`."""
    return 0, DISTANCES[distance], nth, reach, 0


def beside(guard: int) -> Choices:
    """Return the choices of `rmeeto.ops.merge_neighbours`, which compares by the cosine."""
    return 1, DISTANCES["cosine"], 1, 1, guard


class Tokens(Structure):
    """Rows of channels, and how far apart they lie."""

    _fields_ = (("data", c_void_p), ("batch_stride", c_int64), ("token_stride", c_int64))


def tokens(x: Tensor | None) -> Tokens:
    """Return where the rows of x are; nowhere if it is absent."""
    return Tokens() if x is None else Tokens(x.data_ptr(), *x.stride()[:2])


def pointer(x: Tensor | None) -> int | None:
    """Return where the first number of x is; nowhere if it is absent."""
    return None if x is None else x.data_ptr()


def is_readable(dtype: torch.dtype) -> bool:
    """Return whether `readable` gives the library such tokens as it can read."""
    return dtype in STORAGE or dtype == torch.float16


def readable(x: Tensor) -> Tensor:
    """Return x with its channels side by side; slices along the other axes stay where they lie.

    float16, which the library cannot read, becomes float32: nothing is lost on the way there, and results in float16
    are rounded once, as the library rounds to bfloat16.
    """
    x = x.float() if x.dtype == torch.float16 else x
    return x if x.stride(-1) == 1 else x.contiguous()


def parameter(x: Tensor | None) -> Tensor | None:
    """Return x contiguous in float32."""
    return None if x is None else x.to(torch.float32).contiguous()


def in_dtype_of(x: Tensor | None, gradient: Tensor | None, lead: Tensor) -> Tensor:
    """Return the gradient in x's dtype; of shape ``(0,)``, as lead otherwise, if x is absent."""
    return lead.new_empty(0) if x is None or gradient is None else gradient.to(x.dtype)
