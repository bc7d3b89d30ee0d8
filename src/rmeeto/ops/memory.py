"""Whether a tensor is plain memory, which the C++ library may read at the address that PyTorch gives for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PLAIN = (Tensor, nn.Parameter)


def is_dense(x: object) -> bool:
    """Whether these are numbers in a processor's memory, all of them there.

    Not dense are subclasses of `torch.Tensor` (quantised weights, DTensor, FakeTensor, uninitialised parameters),
    wrappers of `torch.func`, sparse, quantised and meta tensors, views that PyTorch negates or conjugates when it reads
    them, and tensors whose memory has been given back (as in sharded training).
    """
    if type(x) not in PLAIN:
        return False
    assert isinstance(x, Tensor)
    if not x.is_cpu or x.layout != torch.strided or x.is_quantized or x.is_neg() or x.is_conj():
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(x) or torch._is_functional_tensor(x):
        return False
    return x.untyped_storage().nbytes() >= (x.storage_offset() + span(x)) * x.itemsize


def span(x: Tensor) -> int:
    """Elements of memory between the first one and the last, both included."""
    if not x.numel():
        return 0
    return 1 + sum((length - 1) * stride for length, stride in zip(x.shape, x.stride(), strict=True))
