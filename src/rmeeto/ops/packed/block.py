"""A Mamba block for inference: weights are packed once, and each pass is one call.

A processor multiplies few tokens (the 197 of an image, or the 58 that a reduction leaves) at full speed only if the
weight lies in memory in the order in which it is read.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rmeeto.ops.impl import cpp
from rmeeto.ops.operands import BlockParameters

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, UInt8

CACHE = 1 << 22  # bytes of workspace for each thread, about what a core can keep near
PRODUCTS = {"in_proj", "out_proj", "x_proj", "dt_proj"}  # weights of products
B_AND_C = 2 * 2 * cpp.MAX_STATES * torch.float32.itemsize  # bytes of both directions' B and C of a token


class BlockOutputs(NamedTuple):
    """What a block gives."""

    x: Float[Tensor, "b l d"]
    stream: Float32[Tensor, "b l d"]  # the residual stream that it saw
    workspace: UInt8[Tensor, " bytes"]  # B and C, dt, and the scans' workspace; B and C are cut out when they are read
    rank: int

    @property
    def B_and_C(self) -> Tensor:
        """``(2, b, l, 2, 16)``, float32: the first n of 16 are each one's states."""
        batch, length, _ = self.x.shape
        return self.workspace[: batch * length * B_AND_C].view(torch.float32).view(2, batch, length, 2, cpp.MAX_STATES)

    @property
    def dt(self) -> Tensor:
        """``(2, b, l, rank)``: what Δ is projected from."""
        batch, length, _ = self.x.shape
        before, size = batch * length * B_AND_C, 2 * batch * length * self.rank * self.x.dtype.itemsize
        return self.workspace[before : before + size].view(self.x.dtype).view(2, batch, length, self.rank)


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
    """A block for inference, with parameters that stay.

    Nothing is checked: :func:`unsupported_reason` has been asked, and a frozen block knows what it hands over.

    Args:
        dtype: float32 or bfloat16, what products are computed in and tokens kept in.
        parameters: copied.
        eps: added to the mean square of the norm.
        scale: of what both directions give together.

    Raises:
        MemoryError: there is none left for the copies.
    """

    def __init__(self, dtype: torch.dtype, parameters: BlockParameters, eps: float, scale: float = 1.0) -> None:
        self.dtype = dtype
        parameters = readable(parameters, dtype)
        self._rank = parameters.forward.dt_proj.shape[1]
        library = cpp.library()
        self.block = library.rmeeto_block_pack(ctypes.byref(cpp.block_weights(parameters, eps, scale)))
        if self.block is None:
            raise MemoryError("a frozen block: no memory left for its packed weights")
        self._workspace, self._run = library.rmeeto_block_workspace, library.rmeeto_block_run
        weakref.finalize(self, library.rmeeto_block_release, self.block)

    def __call__(self, x: Tensor, residual: Tensor | None) -> BlockOutputs:
        """Tokens ``(b, l, d)``, float32 or in ``dtype``, and their residual stream, None before the first block.

        Both are contiguous.
        """
        batch, length, dim = x.shape
        threads = torch.get_num_threads()
        # sizes one by one: a tuple of them takes PyTorch twice as long
        out = x.new_empty(batch, length, dim, dtype=self.dtype)
        stream = x.new_empty(batch, length, dim, dtype=torch.float32)
        tokens = cpp.BlockTokens(
            *(batch, length, cpp.STORAGE[x.dtype], x.data_ptr(), None if residual is None else residual.data_ptr()),
            *(stream.data_ptr(), out.data_ptr()),
        )
        call = ctypes.byref(tokens)
        workspace = x.new_empty(self._workspace(self.block, call, CACHE, threads), dtype=torch.uint8)
        if not self._run(self.block, call, CACHE, workspace.data_ptr(), threads):
            raise MemoryError("a frozen block: no memory left for the kernel's scratch space")
        return BlockOutputs(out, stream, workspace, self._rank)


def readable(parameters: BlockParameters, dtype: torch.dtype) -> BlockParameters:
    """The values of now as the library reads them: the products' weights in ``dtype``, all others in float32."""
    return BlockParameters.of(
        [
            x.detach().to(dtype if name.removesuffix("_b") in PRODUCTS else torch.float32).contiguous()
            for name, x in parameters.named().items()
        ]
    )
