"""What a model costs, block by block, from its sizes and its schedule alone. Nothing is run.

Two conventions, always named beside the figure:

``paper``
    The authors' counter (reproduces Table 2): one multiply-add of a projection counts once, the scan 9·l·e·n, and
    only **one** of the two scan directions. Matching and merging count as 6·l·d + 2·d·(l/2)² + r·d. Norms,
    activations and the position table are left out.
``exact``
    Floating-point operations: a multiply-add is two, exp, log, division and square root are one each. Both
    directions, norms, activations, matching and moving tokens are all counted.

With l tokens, width d, inner width e = 2d, n states, convolution width k and Δ rank ρ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from rmeeto.errors import UnknownName
from rmeeto.reduction.protocol import Reduction
from rmeeto.reduction.schedule import Schedule

if TYPE_CHECKING:
    from rmeeto.models.config import ModelConfig

Convention = Literal["paper", "exact"]
Terms = dict[str, float]


class Reducible(Protocol):
    """What :func:`flops` reads of a model."""

    config: ModelConfig
    reduction: Reduction | None


@dataclass(frozen=True)
class BlockCost:
    """One block. tokens: what its mixer sees. removed: by the reduction at its entry. terms: operations by name."""

    tokens: int
    removed: int
    terms: Terms

    @property
    def total(self) -> float:
        """Operations of the block and its reduction."""
        return sum(self.terms.values())


@dataclass(frozen=True)
class Cost:
    """Operations per image.

    convention: ``paper`` or ``exact``. blocks: one entry per block. outside: patch embedding, head and the like.
    """

    convention: Convention
    schedule: Schedule
    blocks: tuple[BlockCost, ...]
    outside: Terms

    @property
    def total(self) -> float:
        """Operations per image."""
        return sum(block.total for block in self.blocks) + sum(self.outside.values())

    @property
    def terms(self) -> Terms:
        """Operations per image by name, summed over the blocks, largest first."""
        terms = dict(self.outside)
        for block in self.blocks:
            for name, count in block.terms.items():
                terms[name] = terms.get(name, 0) + count
        return dict(sorted(terms.items(), key=lambda item: -item[1]))

    def __str__(self) -> str:
        tokens = self.schedule.tokens
        return (
            f"{self.total / 1e9:.2f} G ({self.convention} convention), tokens {self.schedule.start} … {tokens[-1]}, "
            f"reduction ratio {self.schedule.ratio:.2f}"
        )


def flops(model: Reducible, *, convention: Convention = "exact") -> Cost:
    """Count the operations per image of a model with its present reduction.

    Raises:
        UnknownName: no such convention.

    >>> print(flops(create_model("vim_small", reduction="merge:r=11"), convention="paper"))
    3.58 G (paper convention), tokens 197 … 76, reduction ratio 0.31
    """
    return count(model.config, model.reduction, convention=convention)


def count(config: ModelConfig, reduction: Reduction | None = None, *, convention: Convention = "exact") -> Cost:
    """As :func:`flops`, from a config and a reduction without building the model."""
    if convention not in ("paper", "exact"):
        raise UnknownName("FLOPs convention", convention, ("paper", "exact"))
    depth, start = config.depth, config.tokens
    schedule = Schedule((0,) * depth, start) if reduction is None else reduction.schedule(depth, start)
    blocks, entering = [], start
    for removed, tokens in zip(schedule.counts, schedule.tokens, strict=True):
        terms = _paper_block(config, tokens) if convention == "paper" else _exact_block(config, tokens)
        if removed and convention == "paper":
            terms["reduction"] = _paper_reduction(config, entering, removed)
        elif removed:
            width = _feature_width(config, reduction)
            terms["reduction"] = _exact_reduction(config, width, entering, removed)
        blocks.append(BlockCost(tokens, removed, terms))
        entering = tokens
    outside = _paper_outside(config) if convention == "paper" else _exact_outside(config, schedule.tokens[-1])
    return Cost(convention, schedule, tuple(blocks), outside)


def _paper_block(config: ModelConfig, tokens: int) -> Terms:
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


def _paper_reduction(config: ModelConfig, tokens: int, removed: int) -> float:
    return 6 * tokens * config.dim + 2 * config.dim * (tokens / 2) ** 2 + removed * config.dim


def _paper_outside(config: ModelConfig) -> Terms:
    return {
        "patch embedding": config.patches * config.patch_size**2 * config.in_chans * config.dim,
        "head": config.dim * config.num_classes,
    }


SILU = 4  # negate, exp, add, divide
SOFTPLUS = 3  # exp, add, log


def _exact_block(config: ModelConfig, tokens: int) -> Terms:
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


def _feature_width(config: ModelConfig, reduction: Reduction | None) -> int:
    """Numbers per token that the reduction compares."""
    widths = {"X": config.dim, "B": config.state, "C": config.state, "delta": config.inner}
    return widths[getattr(reduction, "features", "X")]


def _exact_reduction(config: ModelConfig, width: int, tokens: int, removed: int) -> float:
    patches = tokens - 1
    targets = patches // 2
    candidates = patches - targets
    combine = 0 if width == config.dim else 2 * patches * width  # mean of both directions
    normalise = 3 * patches * width
    compare = candidates * targets * (2 * width + 1)
    move = 2 * removed * 3 * config.dim  # hidden and residual: difference, weight, add
    return combine + normalise + compare + move


def _exact_outside(config: ModelConfig, tokens: int) -> Terms:
    d = config.dim
    return {
        "patch embedding": 2 * config.patches * config.patch_size**2 * config.in_chans * d,
        "position table": config.tokens * d,
        "final norm": 5 * tokens * d,
        "head": 2 * d * config.num_classes,
    }
