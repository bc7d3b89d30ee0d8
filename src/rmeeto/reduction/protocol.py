"""What a model asks of a reduction method, and the values they talk in.

The model, the FLOPs and the pictures all read their token counts from :class:`Schedule`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from rmeeto.errors import ConfigError
from rmeeto.reduction.tokens import Features, Tokens


@dataclass(frozen=True)
class Step:
    """One block's turn: remove ``r`` tokens per image at block ``block`` of ``depth`` (blocks count from 0).

    time: frames of patches that the tokens began with, 1 for images. grid: rows and columns of patches in a frame;
    None if the network has no grid.
    """

    r: int
    block: int
    depth: int
    time: int = 1
    grid: tuple[int, int] | None = None


@dataclass(frozen=True)
class Schedule:
    """Tokens to remove at the entry of each block, resolved for one depth and one sequence length.

    counts: per block, tokens removed at its entry. start: tokens per image that enter the model. time: frames that
    their patches lie in, 1 for images. grid: rows and columns of patches in a frame; None if there is no grid.
    """

    counts: tuple[int, ...]
    start: int
    time: int = 1
    grid: tuple[int, int] | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every block's turn, those that remove nothing included."""
        depth = len(self.counts)
        return tuple(Step(r, block, depth, self.time, self.grid) for block, r in enumerate(self.counts))

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens that each block's mixer sees, class token included."""
        left, tokens = self.start, []
        for count in self.counts:
            left -= count
            tokens.append(left)
        return tuple(tokens)

    @property
    def ratio(self) -> float:
        """Reduction ratio: one minus the mean of the tokens per block over the tokens at the start (Table 10)."""
        return 1.0 - sum(self.tokens) / (len(self.counts) * self.start)


@dataclass(frozen=True)
class Stack:
    """What a schedule must know of a network.

    depth: its blocks. tokens: that enter, per image. protected: how many of them no reduction touches.
    first: the lowest block that can reduce. features: what its blocks compute about their tokens, by name.
    time: frames that the patches lie in, evenly and one after the other; 1 for images.
    operations: exact operations per image under a reduction and a schedule; None if the network has no counter, and
    then budgets of operations are refused. grid: rows and columns of patches in a frame; None if there is no grid, and
    then methods that need one are refused.
    """

    depth: int
    tokens: int
    protected: int = 1
    first: int = 1
    features: frozenset[str] = frozenset({"X"})
    time: int = 1
    operations: Callable[[Reduction, Schedule], float] | None = None
    grid: tuple[int, int] | None = None

    def whole(self) -> Schedule:
        """The schedule that removes nothing."""
        return Schedule((0,) * self.depth, self.tokens, self.time, self.grid)

    def exact_operations(self, reduction: Reduction, schedule: Schedule) -> float:
        """Operations per image, the reduction's own included.

        Raises:
            ConfigError: there is no counter for this network.
        """
        if self.operations is None:
            raise ConfigError(
                f"keep {reduction} within a budget of operations",
                why="there is no counter of operations for this network",
                fix="use r or ratio",
            )
        return self.operations(reduction, schedule)

    def capacity(self, tokens: int) -> int:
        """The most tokens that one reduction can remove out of ``tokens``: half of the patches, ⌊(l - protected)/2⌋."""
        return max(0, (tokens - self.protected) // 2)


@dataclass(frozen=True)
class Widths:
    """Numbers per token in a network.

    features: of each feature that tokens can be compared by. directional: those that both scan directions have, one
    set each. moved: numbers that a reduction gathers for every token, hidden state and residual together.
    """

    features: Mapping[str, int]
    directional: tuple[str, ...]
    moved: int


class Reduction(Protocol):
    """A frozen value that decides how many tokens go (``schedule``) and which (``step``).

    ``schedule`` raises :class:`ConfigError` for a network that cannot be reduced this way.
    varies: whether images lose different numbers of tokens; the schedule then holds the largest.
    """

    name: ClassVar[str]
    varies: ClassVar[bool]

    @property
    def needs(self) -> frozenset[str]:
        """The features of tokens that ``step`` reads, by name."""
        ...

    def schedule(self, stack: Stack) -> Schedule:
        """Tokens to remove at each block of a network."""
        ...

    def step(self, tokens: Tokens, features: Features | None, step: Step) -> Tokens:
        """Remove ``step.r`` tokens (at least one) from each image before a block; at most ``step.r`` if it varies."""
        ...

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact floating-point operations per image of a step that sees ``patches`` patches."""
        ...

    def timing_operations(self, widths: Widths, tokens: int) -> float:
        """Exact operations of the changed step sizes in a block of ``tokens`` tokens, once some have been removed."""
        ...
