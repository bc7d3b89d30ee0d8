"""A Mamba block for inference with parameters that stay, in one call.

The operations of this package look at their operands anew at every call, which a block of few tokens feels. Here
everything that follows from the parameters is settled and packed once, products included: a processor multiplies the
197 tokens of an image, or the 58 that a reduction leaves, as fast as it can multiply at all if their weight lies as it
is read.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import NamedTuple

import torch
from torch import Tensor

from rmeeto.ops.impl import cpp

CACHE = 1 << 22  # bytes of room for each thread, about what a core can keep near


class BlockParameters(NamedTuple):
    """What a block is made of; whatever concerns both directions stands in one tensor, the forward one's first."""

    norm_weight: Tensor  # (d,)
    conv_weight: Tensor  # (2, e, width)
    conv_bias: Tensor  # (2, e)
    A: Tensor  # (2, e, n)
    skip: Tensor  # (2, e)
    delta_bias: Tensor  # (2, e)
    in_proj: Tensor  # (2e, d)
    x_proj: Tensor  # (2, rank + 2n, e)
    dt_proj: Tensor  # (2, e, rank)
    out_proj: Tensor  # (d, e)


class BlockOutputs(NamedTuple):
    """What a block gives."""

    x: Tensor  # (b, l, d)
    stream: Tensor  # (b, l, d), float32: the residual stream that it saw
    B_and_C: Tensor  # (2, b, l, 2, 16), float32: the first n of 16 are each one's states
    dt: Tensor  # (2, b, l, rank): what Δ is projected from


def unsupported_reason(dtype: torch.dtype, states: int, width: int) -> str | None:
    """Why there is no such kernel here, or None."""
    if (absence := cpp.absence()) is not None:
        return absence
    if dtype not in cpp.STORAGE or states > cpp.MAX_STATES or width not in cpp.WIDTHS:
        return f"the C++ kernels take neither {dtype}, {states} states nor {width} taps together"
    if dtype == torch.bfloat16 and cpp.instruction_set() != "avx512_bf16":
        return "the C++ kernels multiply bfloat16 with AVX512-BF16 alone; PyTorch knows other processors' instructions"
    if dtype == torch.bfloat16 and cpp.library().rmeeto_has_matrix_registers():
        return "PyTorch's products use this processor's matrix registers (AMX), which the C++ kernels do not"
    return None


class PackedBlock:
    """Join and normalise, project, convolve, scan from both ends, project: the operations of those names at once.

    Nothing is checked: :func:`unsupported_reason` has been asked, and a frozen block knows what it hands over.

    Args:
        dtype: float32 or bfloat16, what products are computed in and tokens kept in.
        parameters: copied.
        eps: added to the mean square of the norm.

    Raises:
        MemoryError: there is none left for the copies.
    """

    def __init__(self, dtype: torch.dtype, parameters: BlockParameters, eps: float) -> None:
        self.dtype = dtype
        *others, in_proj, x_proj, dt_proj, out_proj = (x.detach() for x in parameters)
        kept = [x.to(torch.float32).contiguous() for x in others]
        kept += [x.to(dtype).contiguous() for x in (in_proj, x_proj, dt_proj, out_proj)]
        _, self._inner, _ = parameters.A.shape
        self._rank = dt_proj.shape[2]
        weights = cpp.BlockWeights(
            *(cpp.STORAGE[dtype], out_proj.shape[0], self._inner, parameters.A.shape[2], self._rank),
            *(parameters.conv_weight.shape[2], eps),
            *(x.data_ptr() for x in kept),
        )
        library = cpp.library()
        self._block = library.rmeeto_block_pack(ctypes.byref(weights))
        if self._block is None:
            raise MemoryError("a frozen block: no memory left for its packed weights")
        self._run = library.rmeeto_block_run
        weakref.finalize(self, library.rmeeto_block_release, self._block)

    def __call__(self, x: Tensor, residual: Tensor | None) -> BlockOutputs:
        """Tokens ``(b, l, d)``, float32 or in ``dtype``, and their residual stream, None before the first block.

        Both are contiguous.
        """
        batch, length, _ = x.shape
        threads = torch.get_num_threads()
        group = self._group(batch, length, threads)
        out, stream = x.new_empty(x.shape, dtype=self.dtype), x.new_empty(x.shape, dtype=torch.float32)
        b_and_c = stream.new_empty((2, batch, length, 2, cpp.MAX_STATES))
        dt = out.new_empty((2, batch, length, self._rank))
        room = out.new_empty((4, group, length, self._inner))
        tokens = cpp.BlockTokens(
            *(batch, length, cpp.STORAGE[x.dtype], x.data_ptr(), None if residual is None else residual.data_ptr()),
            *(stream.data_ptr(), out.data_ptr(), b_and_c.data_ptr(), dt.data_ptr()),
            *(group, room.data_ptr(), room.data_ptr() + room.nbytes // 2),
        )
        if not self._run(self._block, ctypes.byref(tokens), threads):
            raise MemoryError("a frozen block: no memory left for the kernel's scratch space")
        return BlockOutputs(out, stream, b_and_c, dt)

    def _group(self, batch: int, length: int, threads: int) -> int:
        """How many images go through the block together: as many as leave their work in the cores' own caches."""
        image = 4 * self._inner * length * self.dtype.itemsize
        return min(batch, threads * max(1, CACHE // image))
