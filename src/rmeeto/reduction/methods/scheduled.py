"""What every method of ours shares: how many tokens are removed and where, and the method's text form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self, cast

from rmeeto.errors import ConfigError
from rmeeto.reduction.budget import for_operations, for_ratio
from rmeeto.reduction.choices import check_choices, check_count, check_features, check_types
from rmeeto.reduction.protocol import Reduction, Schedule, Stack, Widths
from rmeeto.reduction.schedule import block_numbers, constant, linear, listed
from rmeeto.reduction.spec import OneLine


@dataclass(frozen=True, kw_only=True, repr=False)
class ScheduledReduction(OneLine):
    """How much and where. Exactly one of r, ratio, gflops and fewer says how much.

    r: tokens to remove per reducing block: one number, or a list with one entry per reducing block.
    ratio: the reduction ratio to come closest to (one minus mean tokens per block over tokens at the start).
    gflops: the most that an image may cost, in 10⁹ operations of the exact convention of :mod:`rmeeto.cost`.
    fewer: at least this many times fewer operations than the unreduced model, counted alike. The reduction's own
        operations are part of both budgets, and no more is removed than they ask for.
    slope: r falls (below 0) or rises (above 0) linearly over the reducing blocks around its mean; at -1 it ends at
        zero, at 1 it begins there.
    minimum: tokens that are always left.
    blocks: ``even`` (2, 4, …), ``odd`` (1, 3, …), ``all``, ``lower`` or ``upper`` (the first or last quarter), or a
        slice such as ``6::6``.

    Raises:
        ConfigError, UnknownName: impossible values, when built; counts and budgets out of reach, when given to a model.
    """

    r: int | tuple[int, ...] | None = None
    ratio: float | None = None
    gflops: float | None = None
    fewer: float | None = None
    slope: float = 0.0
    minimum: int = 0
    blocks: str = "even"

    name: ClassVar[str]
    varies: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_types(self)  # a list is welcome and becomes a tuple: a value must be hashable
        check_choices(self)
        self._check_one_amount()
        for count in self.r if isinstance(self.r, tuple) else [] if self.r is None else [self.r]:
            check_count("r", count)
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise ConfigError(
                f"reach a reduction ratio of {self.ratio}",
                why="a ratio is the share of tokens removed, averaged over the blocks: at least 0, below 1",
                fix="the paper uses 0.14 and 0.31",
            )
        if self.gflops is not None and not 0 < self.gflops < math.inf:
            raise ConfigError(f"stay within gflops={self.gflops}", why="a budget is a number above 0")
        if self.fewer is not None and not 1 <= self.fewer < math.inf:
            raise ConfigError(
                f"need fewer={self.fewer} times fewer operations",
                why="it is the unreduced model's operations over the reduced one's: at least 1",
                fix="1.4 leaves 71 % of the operations",
            )
        self._check_shape()

    def _check_one_amount(self) -> None:
        amounts = {name: getattr(self, name) for name in ("r", "ratio", "gflops", "fewer")}
        given = {name: value for name, value in amounts.items() if value is not None}
        if len(given) != 1:
            raise ConfigError(
                f"build {type(self).__name__}",
                given=", ".join(f"{name}={value}" for name, value in given.items()) or "none of them",
                why="exactly one of r, ratio, gflops and fewer says how much to reduce",
                fix=f"for instance {self.name}:r=11, {self.name}:ratio=0.31 or {self.name}:fewer=1.4",
            )

    def _check_shape(self) -> None:
        if not -1 <= self.slope <= 1:
            raise ConfigError(
                f"reduce with slope={self.slope}", why="r cannot fall or rise by more than its mean: -1 … 1"
            )
        if self.slope and isinstance(self.r, tuple):
            raise ConfigError(
                "reduce by a list of counts with a slope", why="the list already says what each block removes"
            )
        if isinstance(self.minimum, bool) or not isinstance(self.minimum, int) or self.minimum < 0:
            raise ConfigError(f"leave minimum={self.minimum} tokens", why="it is a whole number, zero or more")

    @property
    def needs(self) -> frozenset[str]:
        """The features of tokens that the method reads, by name."""
        return frozenset()

    def timing_operations(self, widths: Widths, tokens: int) -> float:
        """Operations of changed step sizes: 0, because they do not change."""
        return 0.0

    def schedule(self, stack: Stack) -> Schedule:
        """Tokens to remove at each block of a network.

        Raises:
            ConfigError: a network without a feature that the method needs; counts or a budget out of its reach.
        """
        check_features(self.name, self.needs, stack)
        chosen = block_numbers(self.blocks, stack)
        if isinstance(self.r, tuple):
            return listed(self.r, chosen, stack, minimum=self.minimum)
        if self.r is not None:
            return constant(self.r, chosen, stack, slope=self.slope, minimum=self.minimum)
        family = partial(linear, chosen=chosen, stack=stack, slope=self.slope, minimum=self.minimum)
        most = float(stack.tokens * len(chosen))
        if self.ratio is not None:
            return for_ratio(self.ratio, family, most)
        cost = partial(stack.exact_operations, cast(Reduction, self))  # step and operations are the subclass's
        if self.gflops is not None:
            return for_operations(1e9 * self.gflops, f"stay within {self.gflops:g} GFLOPs", family, most, cost)
        assert self.fewer is not None
        asked = f"need at least {self.fewer:g}× fewer operations"
        return for_operations(cost(stack.whole()) / self.fewer, asked, family, most, cost)

    def with_counts(self, counts: Sequence[int]) -> Self:
        """The same method with a count for each of the blocks from the lowest that can reduce on."""
        r = tuple(counts)
        return replace(self, r=r, ratio=None, gflops=None, fewer=None, slope=0.0, minimum=0, blocks="all")
