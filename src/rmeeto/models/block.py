"""A block of a Vision Mamba: join the residual stream, normalise, mix."""

from __future__ import annotations

import torch
from timm.layers.drop import DropPath
from torch import Tensor

from rmeeto.config import ModelConfig
from rmeeto.models import trained_block
from rmeeto.models.freezing import Freezable
from rmeeto.models.frozen_block import FrozenBlock
from rmeeto.models.layers import RMSNorm
from rmeeto.models.mixers import BidirectionalMixer
from rmeeto.models.snapshot import methods_of
from rmeeto.ops.select import Impl, infers_on_processor
from rmeeto.tokens import Features, Tokens


class Block(Freezable[FrozenBlock]):
    """Join the residual stream, normalise, mix; frozen, in the fewest steps on a processor."""

    def __init__(self, config: ModelConfig, drop_path_rate: float, impl: Impl) -> None:
        super().__init__()
        self.mixer = BidirectionalMixer(config, impl)
        self.norm = RMSNorm(config.dim, impl=impl)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, tokens: Tokens, needs: frozenset[str] = frozenset()) -> tuple[Tokens, Features | None]:
        """One block: the tokens with new ``x`` and ``residual``, and the mixer's features, at least those needed."""
        ready = self.ready(tokens, needs)
        if ready is not None:
            return ready(tokens, needs)
        if trained_block.is_possible(self, tokens, needs) and JOINED.of(type(self)).is_as_written():
            x, residual = trained_block.run(self, self.drop_path(tokens.x), tokens.residual)
            return tokens.replace(x=x, residual=residual), None
        normed, residual = self.joined(tokens)
        x, features = self.mixer(normed, tokens.timing, tokens.there, needs)
        return tokens.replace(x=x, residual=residual), features

    def ready(self, tokens: Tokens, needs: frozenset[str]) -> FrozenBlock | None:
        """What a frozen block computes by, if it can take these tokens; None where they go the ordinary way."""
        x = tokens.x
        if self.prepared is None or not infers_on_processor(x):
            return None
        if tokens.timing is not None or tokens.present is not None or "y" in needs:
            return None
        found = self.frozen(precision(self.norm.weight))
        if found is None or x.dtype not in (found.packed.dtype, torch.float32) or not x.is_contiguous():
            return None
        return found

    def frozen(self, dtype: torch.dtype) -> FrozenBlock | None:
        """What was packed for products in a precision; None while thawed, and where kernels cannot use it."""
        if self.prepared is None:
            return None
        if dtype not in self.prepared and FrozenBlock.is_possible(self, dtype):
            self.prepared[dtype] = FrozenBlock(self, dtype, [JOINED.of(type(self))])
        found = self.prepared.get(dtype)
        return found if found is not None and found.snapshot.holds() else None

    def joined(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """What the mixer sees, and the residual stream with the last block's output added."""
        return self.norm.join(self.drop_path(tokens.x), tokens.residual)


(JOINED,) = methods_of(Block, "joined")
BLOCK_METHODS = (JOINED, *methods_of(Block, "forward"))


def precision(weight: Tensor) -> torch.dtype:
    """What products are computed in on a processor: the weights' precision, or autocast's."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
