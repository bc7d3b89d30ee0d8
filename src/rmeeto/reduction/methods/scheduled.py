"""What every method of ours shares: how much is removed and where, and how it is written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rmeeto.errors import ConfigError
from rmeeto.reduction.choices import check_choices, check_count, check_features
from rmeeto.reduction.protocol import Widths
from rmeeto.reduction.schedule import Schedule, Stack, resolve
from rmeeto.reduction.spec import format_reduction


@dataclass(frozen=True, kw_only=True, repr=False)
class ScheduledReduction:
    """How much and where.

    r: tokens to remove per reducing block: one number, or a list with one entry per reducing block.
    ratio: instead of r, the reduction ratio to reach (one minus mean tokens per block over tokens at the start).
    blocks: ``even`` (2, 4, …), ``odd`` (1, 3, …), ``all``, or a slice such as ``6::6``.

    Raises:
        ConfigError, UnknownName: impossible values, when built; counts too large, when given to a model.
    """

    r: int | tuple[int, ...] | None = None
    ratio: float | None = None
    blocks: str = "even"

    name: ClassVar[str]

    def __post_init__(self) -> None:
        if isinstance(self.r, Sequence):
            object.__setattr__(self, "r", tuple(self.r))  # a list is welcome; a value must be hashable
        if (self.r is None) == (self.ratio is None):
            raise ConfigError(
                f"build {type(self).__name__}",
                given=f"r={self.r}, ratio={self.ratio}",
                why="exactly one of r and ratio says how much to reduce",
                fix=f"for instance {self.name}:r=11 or {self.name}:ratio=0.31",
            )
        for count in self.r if isinstance(self.r, tuple) else [] if self.r is None else [self.r]:
            check_count("r", count)
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise ConfigError(
                f"reach a reduction ratio of {self.ratio}",
                why="a ratio is the share of tokens removed, averaged over the blocks: at least 0, below 1",
                fix="the paper uses 0.14 and 0.31",
            )
        check_choices(self)

    def __str__(self) -> str:
        return format_reduction(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def needs(self) -> frozenset[str]:
        """The features of tokens that the method reads, by name."""
        return frozenset()

    def timing_operations(self, widths: Widths, tokens: int) -> float:
        """None, where time runs as if no token had been removed."""
        return 0.0

    def schedule(self, stack: Stack) -> Schedule:
        """Tokens to remove at each block of a network.

        Raises:
            ConfigError: a network without a feature that the method needs, or counts too large for it.
        """
        check_features(self.name, self.needs, stack)
        return resolve(stack, r=self.r, ratio=self.ratio, blocks=self.blocks)
