"""Operations of a Vision Transformer."""

from __future__ import annotations

from dataclasses import dataclass

from rmeeto.config import TransformerConfig
from rmeeto.cost.network import Convention, Terms
from rmeeto.reduction.protocol import Stack, Widths

GELU = 5  # scale, erf, add, multiply, halve
LAYER_NORM = 7  # mean, centre, square, sum, divide, weight, bias
SOFTMAX = 5  # scale, maximum, subtract, exp, sum; the division is of the far fewer outputs


@dataclass(frozen=True)
class AttentionNetwork:
    """A network of these sizes. Its blocks reduce between attention and MLP, so attention still sees every token.

    The convention ``paper`` is the authors' counter: one multiply-add of a projection counts once, and the attention
    products q·kᵀ and softmax·v are **not** counted.
    """

    config: TransformerConfig

    @property
    def stack(self) -> Stack:
        """A block compares tokens by its own attention, so block 0 can reduce too."""
        features = frozenset(self.widths.features)
        config = self.config
        return Stack(config.depth, config.tokens, protected=config.prefix, first=0, features=features, grid=config.grid)

    @property
    def widths(self) -> Widths:
        """There is one stream of tokens to move."""
        config = self.config
        features = {"X": config.dim, "Q": config.head_dim, "K": config.head_dim, "V": config.head_dim}
        return Widths(features=features, directional=(), moved=config.dim)

    def block(self, before: int, after: int, convention: Convention) -> Terms:
        """One block: attention over the tokens before its reduction, MLP over those after."""
        config = self.config
        d, e, hidden = config.dim, config.inner, config.hidden
        projections = {
            "qkv": before * d * 3 * e,
            "proj": before * e * d,
            "mlp": after * d * hidden * (3 if config.gated else 2),
        }
        if convention == "paper":
            return dict(projections)
        scale = 1 if config.layer_scale else 0
        return {
            **{name: 2 * operations for name, operations in projections.items()},
            "attention": before * before * (4 * e + SOFTMAX * config.heads) + before * e,
            "activation": after * hidden * (GELU + (1 if config.gated else 0)),
            "norms and residual": (before + after) * d * (LAYER_NORM + 1 + scale),
        }

    def outside(self, last: int, convention: Convention) -> Terms:
        """Patch embedding, position table, final norm, pooling, head."""
        config, d = self.config, self.config.dim
        patch = config.patch_size[0] * config.patch_size[1] * config.in_chans
        patches, head = config.patches * patch * d, d * config.num_classes
        if convention == "paper":
            return {"patch embedding": patches, "head": head}
        return {
            "patch embedding": 2 * patches,
            "position table": config.tokens * d,
            "final norm": LAYER_NORM * last * d,
            "pooling": self._pooling(last),
            "head": 2 * head,
        }

    def _pooling(self, last: int) -> float:
        """Nothing for one token; a weighted sum; or one query's attention and an MLP."""
        config, d = self.config, self.config.dim
        if config.pool in ("token", ""):
            return 0
        if config.pool == "map":
            query = 2 * 2 * d * d  # its own projection, and that of what it gathered
            return query + last * (2 * 2 * d * d + 4 * d + SOFTMAX * config.heads) + 2 * 2 * d * config.hidden
        return 2 * last * d
