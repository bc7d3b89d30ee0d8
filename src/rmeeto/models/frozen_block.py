"""A block as inference on a processor wants it: nothing about its weights is left to do, and no call is made twice.

At batch 1 a block's arithmetic takes a few milliseconds at most, and less with every reduction, so whatever Python and
PyTorch do around it is felt. Both directions are therefore one tensor here: one convolution, one batched product for
all of x_proj, one for dt_proj, one scan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rmeeto.models.linear import multiply, pack, packing_dtypes
from rmeeto.ops.block import BlockKernels, unsupported_reason
from rmeeto.timing import Pair
from rmeeto.tokens import Features, Tokens

if TYPE_CHECKING:
    from rmeeto.models.backbone import Block


class FrozenBlock:
    """What :class:`Block` computes, from the weights it has now, in float32 or bfloat16 on a processor.

    It takes tokens among which none are missing, and hands out B, C and Δ of both directions, but no y.
    """

    def __init__(self, block: Block, dtype: torch.dtype) -> None:
        mixer, sides = block.mixer, block.mixer.directions()
        self.choosing = (mixer, block.norm)
        self.inner = [module for module in block.modules() if module is not block]
        self.dtype, self.rank, self.state = dtype, mixer.rank, mixer.state
        self.in_proj = mixer.in_proj.packed(dtype)
        # halving is exact, so the last product may do it
        self.out_proj = pack((mixer.out_proj.weight.detach() * mixer.scale).to(dtype))
        self.x_proj = torch.stack([side.x_proj.weight.detach().to(dtype).T for side in sides])
        self.dt_proj = torch.stack([side.dt_proj.weight.detach().to(dtype).T for side in sides])
        self.delta_bias = torch.stack([side.dt_proj.bias.detach() for side in sides])
        self.kernels = BlockKernels(
            dtype,
            norm_weight=block.norm.weight,
            eps=block.norm.eps,
            conv_weight=torch.cat([side.conv.weight for side in sides]).reshape(2, -1, mixer.conv1d.kernel_size[0]),
            conv_bias=torch.stack([mixer.conv1d.bias, mixer.conv1d_b.bias]),  # type: ignore[list-item]  # both have one
            A=torch.stack([side.decay_rates() for side in sides]),
            skip=torch.stack([side.skip for side in sides]),
            delta_bias=self.delta_bias,
            rank=self.rank,
        )

    @staticmethod
    def is_possible(block: Block, dtype: torch.dtype) -> bool:
        """Whether this machine has what it takes."""
        mixer = block.mixer
        kernels = unsupported_reason(dtype, mixer.state, mixer.conv1d.kernel_size[0]) is None
        return kernels and dtype in packing_dtypes()

    def is_wanted(self) -> bool:
        """Whether nobody asks for other kernels, nor has hooks on the layers inside, which would not be called here."""
        if any(module.impl not in ("auto", "cpp") for module in self.choosing):
            return False
        return not any(module._forward_hooks or module._forward_pre_hooks for module in self.inner)

    def __call__(self, tokens: Tokens, needs: frozenset[str]) -> tuple[Tokens, Features | None]:
        """One block: the tokens with new ``x`` and ``residual``; features only where some are needed."""
        batch, length, _ = tokens.x.shape
        normed, stream = self.kernels.join(tokens.x, tokens.residual)
        projected = multiply(normed, self.in_proj, None)
        u = self.kernels.convolve(projected)
        mixed = torch.bmm(u.view(2, batch * length, -1), self.x_proj)
        delta = torch.bmm(mixed[..., : self.rank], self.dt_proj)
        x = multiply(self.kernels.scan(projected, u, delta, mixed), self.out_proj, None)
        features = self.features(delta, mixed, batch) if needs else None
        return tokens.replace(x=x, residual=stream), features

    def features(self, delta: Tensor, mixed: Tensor, batch: int) -> Features:
        """What both directions computed about the tokens."""
        mixed, delta = (x.view(2, batch, -1, x.shape[-1]) for x in (mixed, delta))
        B, C = mixed[..., self.rank :].chunk(2, dim=-1)
        return Features(B=_pair(B), C=_pair(C), delta=_pair(delta), y=None, delta_bias=_pair(self.delta_bias))


def _pair(x: Tensor) -> Pair:
    return x[0], x[1]
