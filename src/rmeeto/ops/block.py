"""What a Mamba block computes besides its products, for inference with parameters that stay.

The operations of this package look at their operands anew at every call, which a block of few tokens feels: here
everything that follows from the parameters is settled once, and a call says only where the tokens lie.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from rmeeto.ops.impl import cpp


def unsupported_reason(dtype: torch.dtype, states: int, width: int) -> str | None:
    """Why there are no such kernels here, or None."""
    if (absence := cpp.absence()) is not None:
        return absence
    if dtype not in cpp.STORAGE or states > cpp.MAX_STATES or width not in cpp.WIDTHS:
        return f"the C++ kernels take neither {dtype}, {states} states nor {width} taps together"
    return None


class BlockKernels:
    """Norm, convolutions and scans of one block on a processor, in the arithmetic of the operations of those names.

    Tensors are contiguous and in ``dtype``, the residual stream in float32. Whatever concerns both directions stands
    in one tensor ``(2, …)``, the walk from the first token before the walk from the last. Nothing is checked:
    :func:`unsupported_reason` has been asked, and a frozen block knows what it hands over.

    Args:
        dtype: float32 or bfloat16.
        norm_weight: (d,). eps: added to the mean square.
        conv_weight: (2, e, width). conv_bias: (2, e).
        A: (2, e, n). skip, delta_bias: (2, e).
        rank: of Δ's projection.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        *,
        norm_weight: Tensor,
        eps: float,
        conv_weight: Tensor,
        conv_bias: Tensor,
        A: Tensor,
        skip: Tensor,
        delta_bias: Tensor,
        rank: int,
    ) -> None:
        self.dtype = dtype
        _, inner, states = A.shape
        operands = (norm_weight, conv_weight, conv_bias, A, skip, delta_bias)
        self._parameters = [x.detach().to(torch.float32, copy=True).contiguous() for x in operands]
        self._block = cpp.FrozenBlock(
            *(cpp.STORAGE[dtype], len(norm_weight), inner, states, rank, conv_weight.shape[2], eps),
            *(x.data_ptr() for x in self._parameters),
        )
        self._address = ctypes.addressof(self._block)
        self._inner = inner
        library = cpp.library()
        self._norm, self._conv = library.rmeeto_block_norm, library.rmeeto_block_conv
        self._scan = library.rmeeto_block_scan

    def join(self, x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """As `rmeeto.ops.add_norm`: ``(b, l, d)``, in either dtype, and its stream to ``normed`` and the new stream."""
        batch, length, _ = x.shape
        normed, stream = x.new_empty(x.shape, dtype=self.dtype), x.new_empty(x.shape, dtype=torch.float32)
        before = None if residual is None else residual.data_ptr()
        tokens = (x.data_ptr(), cpp.STORAGE[x.dtype], before, stream.data_ptr(), normed.data_ptr())
        _done(self._norm(self._address, batch, length, *tokens, torch.get_num_threads()))
        return normed, stream

    def convolve(self, projected: Tensor) -> Tensor:
        """As `rmeeto.ops.causal_conv` with SiLU: the first half of ``(b, l, 2e)`` from both ends, ``(2, b, l, e)``."""
        batch, length, _ = projected.shape
        u = projected.new_empty((2, batch, length, self._inner))
        tokens = (projected.data_ptr(), u.data_ptr())
        _done(self._conv(self._address, batch, length, *tokens, torch.get_num_threads()))
        return u

    def scan(self, projected: Tensor, u: Tensor, delta: Tensor, mixed: Tensor) -> Tensor:
        """As `rmeeto.ops.bidirectional_scan`, ``(b, l, e)``.

        projected: (b, l, 2e), the gate in its second half. u, delta: (2, b, l, e). mixed: (2, b, l, rank + 2n), B and C
        behind the part that Δ was projected from.
        """
        batch, length, _ = projected.shape
        out = projected.new_empty((batch, length, self._inner))
        tokens = (x.data_ptr() for x in (projected, u, delta, mixed, out))
        _done(self._scan(self._address, batch, length, *tokens, torch.get_num_threads()))
        return out


def _done(finished: bool) -> None:
    if not finished:
        raise MemoryError("a frozen block: no memory left for the kernel's scratch space")
