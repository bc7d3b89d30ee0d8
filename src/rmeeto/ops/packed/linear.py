"""Embedding and classifier of a frozen model, each in one call.

Both run once per image, and between two images all weights go through the caches: every operation of PyTorch finds
itself thrown out of them, and takes several times as long as in a loop of its own.
"""

from __future__ import annotations

import ctypes
import weakref

import torch
from torch import Tensor

from rmeeto.ops.impl import cpp


class PackedLinear:
    """A ``(out, in)`` weight as the kernels read it, in ``dtype``, packed for the instruction set in use now.

    Raises:
        MemoryError: there is none left for the copy.
    """

    def __init__(self, dtype: torch.dtype, weight: Tensor) -> None:
        self.dtype, (self.width, depth), library = dtype, weight.shape, cpp.library()
        weight = weight.detach().to(dtype).contiguous()
        self.packed = library.rmeeto_linear_pack(weight.data_ptr(), cpp.STORAGE[dtype], self.width, depth)
        if self.packed is None:
            raise MemoryError("a frozen model: no memory left for its packed weights")
        weakref.finalize(self, library.rmeeto_linear_release, self.packed)


class PackedEmbedding(PackedLinear):
    """Images to tokens.

    weight: (d, channels, [tubelet,] high, wide), of patches that lie side by side.
    table: (l, d), what is added to the patch at each place, or the token that is learned.
    patch_at: (l,) int64, the patch at each place, or -1 where the token is learned.
    """

    def __init__(self, dtype: torch.dtype, weight: Tensor, table: Tensor, patch_at: Tensor) -> None:
        super().__init__(dtype, weight.flatten(1))
        self._patch, self.length = (1, *weight.shape[2:])[-3:], len(table)
        self._table, self._patch_at = table.detach().to(torch.float32).contiguous(), patch_at.contiguous()

    def __call__(self, images: Tensor) -> Tensor:
        """Images ``(b, channels, [frames,] height, width)`` to ``(b, l, d)`` tokens, both contiguous in float32."""
        out = images.new_empty(len(images), self.length, self.width)
        embedding = self.structure(images)
        embedding.out = out.data_ptr()
        if not cpp.library().rmeeto_embed(self.packed, ctypes.byref(embedding), torch.get_num_threads()):
            raise MemoryError("a frozen model: no memory left to embed so many images")
        return out

    def structure(self, images: Tensor) -> cpp.Embedding:
        """As the library reads it, but for where tokens go."""
        batch, channels, *lengths = images.shape
        return cpp.Embedding(
            *(batch, channels, *(1, *lengths)[-3:], *self._patch, self.length),
            *(images.data_ptr(), self._patch_at.data_ptr(), self._table.data_ptr()),
        )


class PackedClassifier(PackedLinear):
    """Tokens to logits of one of them: joined, normalised by ``norm_weight (d,)``, and one product."""

    def __init__(self, dtype: torch.dtype, norm_weight: Tensor, eps: float, weight: Tensor, bias: Tensor) -> None:
        super().__init__(dtype, weight)
        self._norm_weight, self._bias = (x.detach().to(torch.float32).contiguous() for x in (norm_weight, bias))
        self._eps = eps

    def __call__(self, x: Tensor, residual: Tensor | None, token_at: Tensor) -> Tensor:
        """Tokens ``(b, l, d)`` and their residual stream, both contiguous, to ``(b, classes)``.

        token_at: (b, 1) int64, which one of each image.
        """
        batch, length, _ = x.shape
        out = x.new_empty(batch, self.width, dtype=self.dtype)
        classification = self.structure(out)
        classification.batch, classification.tokens, classification.x_storage = batch, length, cpp.STORAGE[x.dtype]
        classification.x, classification.residual = x.data_ptr(), None if residual is None else residual.data_ptr()
        classification.token_at = cpp.tokens(token_at)
        outcome = cpp.library().rmeeto_classify(self.packed, ctypes.byref(classification), torch.get_num_threads())
        if outcome < 0:
            raise IndexError("classify: a position lies outside of the sequence")
        if not outcome:
            raise MemoryError("a frozen model: no memory left for the kernel's scratch space")
        return out

    def structure(self, out: Tensor) -> cpp.Classification:
        """As the library reads it, but for what is classified."""
        weights = {"norm_weight": self._norm_weight.data_ptr(), "bias": self._bias.data_ptr()}
        return cpp.Classification(eps=self._eps, out=out.data_ptr(), **weights)
