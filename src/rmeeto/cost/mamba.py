"""Operations of a bidirectional Vision Mamba."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rmeeto.config import ModelConfig
from rmeeto.cost.network import Convention, Terms
from rmeeto.reduction.protocol import Stack, Widths

SILU = 4  # negate, exp, add, divide
SOFTPLUS = 3  # exp, add, log


@dataclass(frozen=True)
class MambaNetwork:
    """A network of these sizes. Its blocks reduce at their entry, so only what is left costs anything."""

    config: ModelConfig

    @property
    def stack(self) -> Stack:
        """Block 0 has no features that tokens could be matched by, so it never reduces."""
        features = frozenset(self.widths.features)
        config = self.config
        protected = len(config.protected)
        shape = Stack(config.depth, config.tokens, time=config.time, grid=config.grid)
        return replace(shape, protected=protected, first=1, features=features)

    @property
    def widths(self) -> Widths:
        """Hidden state and residual move together."""
        config = self.config
        features = {"X": config.dim, "B": config.state, "C": config.state, "delta": config.inner, "y": config.inner}
        return Widths(features=features, directional=("B", "C", "delta", "y"), moved=2 * config.dim)

    def block(self, before: int, after: int, convention: Convention) -> Terms:
        """One block."""
        return self._paper_block(after) if convention == "paper" else self._exact_block(after)

    def outside(self, last: int, convention: Convention) -> Terms:
        """Patch embedding, position tables, final norm, head."""
        config, d = self.config, self.config.dim
        patches = config.patches * config.tubelet * config.patch_size**2 * config.in_chans * d
        tables = 2 if config.is_video else 1
        head = d * config.num_classes * (1 if config.global_pool else config.tokens)
        if convention == "paper":
            return {"patch embedding": patches, "head": head}
        return {
            "patch embedding": 2 * patches,
            "position table": (tables * config.patches + 1) * d,
            "final norm": 5 * last * d,
            **({"pooling": 2 * last * d} if config.global_pool == "avg" else {}),
            "head": 2 * head,
        }

    def _paper_block(self, tokens: int) -> Terms:
        config = self.config
        d, e, n, k, rank = config.dim, config.inner, config.state, config.conv_width, config.rank
        return {
            "in_proj": tokens * d * 2 * e,
            "conv": (tokens + k - 1) * e * k,
            "x_proj": tokens * e * (rank + 2 * n),
            "dt_proj": tokens * rank * e,
            "scan": 9 * tokens * e * n,
            "skip and gate": 2 * tokens * e,
            "out_proj": tokens * e * d,
        }

    def _exact_block(self, tokens: int) -> Terms:
        config = self.config
        d, e, n, k, rank = config.dim, config.inner, config.state, config.conv_width, config.rank
        one_direction = {
            "conv": tokens * e * (2 * k + SILU),
            "x_proj": 2 * tokens * e * (rank + 2 * n),
            "dt_proj": 2 * tokens * rank * e,
            # per state: Δ·A, exp, B·Δu, h·Ā + that (2), C·h summed (2); per channel: Δ, Δu, skip, gate
            "scan": tokens * e * (7 * n + 1 + SOFTPLUS + 1 + 2 + SILU + 1),
        }
        both = {name: 2 * operations for name, operations in one_direction.items()}
        return {
            "norm and residual": 5 * tokens * d,
            "in_proj": 2 * tokens * d * 2 * e,
            **both,
            "sum of directions": tokens * e * (2 if config.halve else 1),
            "out_proj": 2 * tokens * e * d,
        }
