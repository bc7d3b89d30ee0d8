"""Count: a network, a reduction, and what every block of the two costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from rmeeto.config import ModelConfig, Sizes, TransformerConfig
from rmeeto.cost.attention import AttentionNetwork
from rmeeto.cost.mamba import MambaNetwork
from rmeeto.cost.network import Convention, Network, Terms
from rmeeto.errors import ConfigError, UnknownName
from rmeeto.reduction.protocol import Reduction, Schedule, Stack

# The counter of each class of sizes; rmeeto.models.family.add_family adds those of further families.
COUNTERS: dict[type, Callable[[Any], Network]] = {ModelConfig: MambaNetwork, TransformerConfig: AttentionNetwork}


@runtime_checkable
class Counted(Protocol):
    """A model that says what it costs."""

    def cost(self, convention: Convention) -> Cost: ...  # noqa: D102


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
    lower_bound: whether images may lose fewer tokens than scheduled, so that no image costs less than this.
    """

    convention: Convention
    schedule: Schedule
    blocks: tuple[BlockCost, ...]
    outside: Terms
    lower_bound: bool = False

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

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    def _repr_html_(self) -> str:
        """A table for notebooks: operations by name."""
        rows = "".join(
            f"<tr><td>{name}</td><td style='text-align:right'>{count / 1e6:,.1f}</td></tr>"
            for name, count in self.terms.items()
        )
        return f"<p>{self}</p><table><tr><th>part</th><th>10⁶ operations per image</th></tr>{rows}</table>"

    def __str__(self) -> str:
        tokens, least = self.schedule.tokens, "at least " if self.lower_bound else ""
        return (
            f"{least}{self.total / 1e9:.2f} G ({self.convention} convention), "
            f"tokens {self.schedule.start} … {tokens[-1]}, reduction ratio {self.schedule.ratio:.2f}"
        )


def flops(model: Counted, *, convention: Convention = "exact") -> Cost:
    """Count the operations per image of a model with its present reduction.

    Raises:
        UnknownName: no such convention.

    >>> print(flops(create_model("vim_small", reduction="merge:r=11"), convention="paper"))
    3.58 G (paper convention), tokens 197 … 76, reduction ratio 0.31
    """
    if not isinstance(model, Counted):
        raise ConfigError(
            "count the operations of a model",
            given=f"a {type(model).__name__}",
            why="only models of rmeeto have a config to count from",
            fix="build it with rmeeto.create_model, or put a timm VisionTransformer through rmeeto.reduce(model, None)",
        )
    return model.cost(convention)


def count(
    config: Sizes,
    reduction: Reduction | None = None,
    *,
    convention: Convention = "exact",
    seen: Sequence[int] | None = None,
) -> Cost:
    """As :func:`flops`, from a config and a reduction without building the model.

    seen: the tokens of an image that each block's mixer saw, for methods whose schedule is only an upper bound.
    """
    if convention not in ("paper", "exact"):
        raise UnknownName("FLOPs convention", convention, ("paper", "exact"))
    stack = stack_of(config)
    schedule = stack.whole() if reduction is None else reduction.schedule(stack)
    return _count(network_of(config), reduction, schedule, convention, seen)


def stack_of(config: Sizes) -> Stack:
    """What schedules know of a network, its exact operations included."""
    network = network_of(config)

    def operations(reduction: Reduction, schedule: Schedule) -> float:
        return _count(network, reduction, schedule, "exact").total

    return replace(network.stack, operations=operations)


def network_of(config: Sizes) -> Network:
    """The network of these sizes, as a counter sees it.

    Raises:
        ConfigError: sizes of a family that has not been added.
    """
    counter = COUNTERS.get(type(config))
    if counter is None:
        raise ConfigError(
            "count the operations of a network",
            given=f"its sizes as a {type(config).__name__}",
            why="no family of networks has sizes of this class",
            fix="add the family with rmeeto.models.family.add_family",
        )
    return counter(config)


def _count(
    network: Network,
    reduction: Reduction | None,
    schedule: Schedule,
    convention: Convention,
    seen: Sequence[int] | None = None,
) -> Cost:
    blocks, before = [], schedule.start
    for step, after in zip(schedule.steps, schedule.tokens if seen is None else seen, strict=True):
        removed = before - after
        terms = network.block(before, after, convention)
        if step.r and convention == "paper":
            terms["reduction"] = _paper_reduction(network.widths.features["X"], before, removed)
        elif step.r and reduction is not None:
            terms["reduction"] = reduction.operations(network.widths, before - network.stack.protected, step)
        if convention == "exact" and reduction is not None and after < schedule.start:
            timing = reduction.timing_operations(network.widths, after)
            terms |= {"timing": timing} if timing else {}
        blocks.append(BlockCost(after, removed, terms))
        before = after
    actual = schedule if seen is None else Schedule(tuple(block.removed for block in blocks), schedule.start)
    lower_bound = reduction is not None and reduction.varies and seen is None
    return Cost(convention, actual, tuple(blocks), network.outside(before, convention), lower_bound)


def _paper_reduction(dim: int, tokens: int, removed: int) -> float:
    return 6 * tokens * dim + 2 * dim * (tokens / 2) ** 2 + removed * dim
