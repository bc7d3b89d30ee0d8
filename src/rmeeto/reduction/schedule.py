"""Schedule: at which blocks tokens are reduced, and by how many. Plain integers; knows no tensors.

Everything that needs token counts — the model, the FLOPs, the pictures — reads this one list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rmeeto.errors import ConfigError

if TYPE_CHECKING:
    from rmeeto.reduction.protocol import Reduction

ROUNDING = 1e-9  # a running sum of floats that should be whole may fall this short


@dataclass(frozen=True)
class Step:
    """One block's turn: remove ``r`` tokens per image at block ``block`` of ``depth`` (blocks count from 0).

    time: frames of patches that the tokens began with, 1 for images.
    """

    r: int
    block: int
    depth: int
    time: int = 1


@dataclass(frozen=True)
class Schedule:
    """Tokens to remove at the entry of each block, resolved for one depth and one sequence length.

    counts: per block, tokens removed at its entry. start: tokens per image that enter the model. time: frames that
    their patches lie in, 1 for images.
    """

    counts: tuple[int, ...]
    start: int
    time: int = 1

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every block's turn, those that remove nothing included."""
        return tuple(Step(r, block, len(self.counts), self.time) for block, r in enumerate(self.counts))

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
    first: the lowest block that can reduce. features: what its blocks know of their tokens, by name.
    time: frames that the patches lie in, evenly and one after the other; 1 for images.
    operations: exact operations per image under a reduction and a schedule; None where nobody has counted.
    """

    depth: int
    tokens: int
    protected: int = 1
    first: int = 1
    features: frozenset[str] = frozenset({"X"})
    time: int = 1
    operations: Callable[[Reduction, Schedule], float] | None = None

    def whole(self) -> Schedule:
        """The schedule that removes nothing."""
        return Schedule((0,) * self.depth, self.tokens, self.time)

    def exact_operations(self, reduction: Reduction, schedule: Schedule) -> float:
        """Operations per image, the reduction's own included.

        Raises:
            ConfigError: nobody has counted this network.
        """
        if self.operations is None:
            raise ConfigError(
                f"keep {reduction} within a budget of operations",
                why="nobody has counted the operations of this network",
                fix="use r or ratio",
            )
        return self.operations(reduction, schedule)

    def capacity(self, tokens: int) -> int:
        """The most of so many tokens that one reduction can remove: half of the patches, ⌊(l - protected)/2⌋."""
        return max(0, (tokens - self.protected) // 2)


def named_blocks(stack: Stack) -> dict[str, str]:
    """Choices of blocks that have a name, as slices."""
    quarter = max(1, stack.depth // 4)
    return {
        "even": "2::2",
        "odd": "1::2",
        "all": f"{stack.first}::1",
        "lower": f"{stack.first}:{max(quarter, stack.first + 1)}",
        "upper": f"{stack.depth - quarter}:",
    }


def block_numbers(blocks: str, stack: Stack) -> range:
    """The blocks that reduce: ``even``, ``odd``, ``all``, ``lower``, ``upper``, or a Python slice such as ``6::6``.

    Lower and upper are the first and the last quarter of the depth (Famba-V's first 5 and last 6 of 24). A Mamba's
    block 0 has no features to match by, so no selection includes it.
    """
    depth = stack.depth
    names = named_blocks(stack)
    text = names.get(blocks, blocks)
    try:
        parts = [int(part) if part else None for part in text.split(":")]
        if len(parts) not in (2, 3):
            raise ValueError(text)
        chosen = range(depth)[slice(*parts)]
    except ValueError:
        raise ConfigError(
            "choose the blocks that reduce",
            given=f"blocks={blocks!r}",
            why="it is neither a name nor a Python slice",
            fix=f"use {', '.join(names)}, or start:stop:step such as 6::6",
        ) from None
    if 0 in chosen and stack.first > 0:
        raise ConfigError(
            "choose the blocks that reduce",
            given=f"blocks={blocks!r}",
            why="block 0 has no block before it whose features could be compared",
            fix="start at 1 or later, for instance 1::1",
        )
    if len(chosen) == 0:
        raise ConfigError(
            "choose the blocks that reduce",
            given=f"blocks={blocks!r}, a model of {depth} blocks",
            why="no block of this model is selected",
            fix="start earlier, or use r=0 to leave the model unreduced",
        )
    return chosen if chosen.step > 0 else chosen[::-1]


def listed(counts: Sequence[int], chosen: range, stack: Stack, *, minimum: int = 0) -> Schedule:
    """A count for each reducing block, cut where fewer than ``minimum`` tokens would be left.

    Raises:
        ConfigError: a list of another length, or a block that has not the tokens for its count.
    """
    if len(counts) != len(chosen):
        raise ConfigError(
            "reduce by a list of counts",
            given=f"{len(counts)} counts",
            why=f"{len(chosen)} of {stack.depth} blocks reduce: {list(chosen)}",
            fix=f"give {len(chosen)} counts, or one number for all",
        )
    left, removed = stack.tokens, [0] * stack.depth
    for block, count in zip(chosen, counts, strict=True):
        removed[block] = _cut(count, left, minimum)
        check_room(removed[block], block, left, stack)
        left -= removed[block]
    return Schedule(tuple(removed), stack.tokens, stack.time)


def constant(r: int, chosen: range, stack: Stack, *, slope: float = 0.0, minimum: int = 0) -> Schedule:
    """About r tokens per reducing block, see :func:`linear`; late blocks with too few tokens left remove fewer.

    That is how the paper's r = 20 gives a ratio of 0.54.

    Raises:
        ConfigError: not even the first reducing block has the tokens.
    """
    schedule = linear(r, chosen, stack, slope=slope, minimum=minimum)
    first = _cut(int(r * (1 + slope * _position(0, chosen))), stack.tokens, minimum)
    check_room(first, chosen[0], stack.tokens, stack)
    return schedule


def linear(mean: float, chosen: range, stack: Stack, *, slope: float = 0.0, minimum: int = 0) -> Schedule:
    """Remove ``mean`` tokens per reducing block on average, from (1 - slope)·mean at the first to (1 + slope)·mean.

    Whole numbers whose running sum never lags by one, unless a block cannot give as many (half of its patches, down
    to ``minimum`` tokens): the blocks behind it then make up for it as far as they can. So a larger mean never leaves
    more tokens anywhere.
    """
    left, due, counts = stack.tokens, 0.0, [0] * stack.depth
    for place, block in enumerate(chosen):
        due += mean * (1 + slope * _position(place, chosen))
        owed = math.floor(due + ROUNDING) - (stack.tokens - left)
        counts[block] = max(0, min(owed, stack.capacity(left), left - minimum))
        left -= counts[block]
    return Schedule(tuple(counts), stack.tokens, stack.time)


def _cut(count: int, left: int, minimum: int) -> int:
    """A wanted count, cut where a minimum is set; without one, too large a count is left for an error to name."""
    return min(count, max(0, left - minimum)) if minimum else count


def _position(place: int, chosen: range) -> float:
    """From -1 at the first reducing block to 1 at the last."""
    return 2 * place / (len(chosen) - 1) - 1 if len(chosen) > 1 else 0.0


def check_room(count: int, block: int, left: int, stack: Stack) -> None:
    """Raise :class:`ConfigError` unless a block to which so many tokens are left can remove the count."""
    room = stack.capacity(left)
    if count > room:
        raise ConfigError(
            f"remove {count} tokens at block {block}",
            given=f"{left} tokens there, {stack.protected} of them protected (class token)",
            why=f"one reduction can remove at most half of the patches, {room}",
            fix=f"use r ≤ {room} here, or reduce at more blocks",
        )
