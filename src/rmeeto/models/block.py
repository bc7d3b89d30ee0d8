"""A block of a Vision Mamba: join the residual stream, normalise, mix."""

from __future__ import annotations

from typing import Any

from timm.layers.drop import DropPath
from torch import Tensor

from rmeeto.config import ModelConfig
from rmeeto.models import trained_block
from rmeeto.models.freezable import Freezable
from rmeeto.models.layers import RMSNorm
from rmeeto.models.mixers import BidirectionalMixer
from rmeeto.models.snapshot import methods_of
from rmeeto.ops.select import Impl
from rmeeto.reduction.tokens import Features, Tokens


class Block(Freezable[Any]):
    """Join the residual stream, normalise, mix; a frozen block's executor does all of it if it can."""

    def __init__(self, config: ModelConfig, drop_path_rate: float, impl: Impl) -> None:
        super().__init__()
        self.mixer = BidirectionalMixer(config, impl)
        self.norm = RMSNorm(config.dim, impl=impl)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, tokens: Tokens, needs: frozenset[str] = frozenset()) -> tuple[Tokens, Features | None]:
        """One block: the tokens with new ``x`` and ``residual``, and the mixer's features, at least those needed."""
        if self.executor is not None:
            done: tuple[Tokens, Features | None] | None = self.executor(self, tokens, needs)
            if done is not None:
                return done
        if trained_block.is_possible(self, tokens, needs) and JOINED.of(type(self)).is_as_written():
            x, residual = trained_block.run(self, self.drop_path(tokens.x), tokens.residual)
            return tokens.replace(x=x, residual=residual), None
        normed, residual = self.joined(tokens)
        x, features = self.mixer(normed, tokens.timing, tokens.there, needs)
        return tokens.replace(x=x, residual=residual), features

    def joined(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """What the mixer sees, and the residual stream with the last block's output added."""
        return self.norm.join(self.drop_path(tokens.x), tokens.residual)


(JOINED,) = methods_of(Block, "joined")
BLOCK_METHODS = (JOINED, *methods_of(Block, "forward"))
