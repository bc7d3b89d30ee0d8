"""Schedule: at which blocks tokens are reduced, and by how many. Plain integers; knows no tensors.

Everything that needs token counts — the model, the FLOPs, the pictures — reads this one list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rmeeto.errors import ConfigError

if TYPE_CHECKING:
    from rmeeto.reduction.protocol import Reduction

NAMED_BLOCKS = {"even": "2::2", "odd": "1::2", "all": "1::1"}


@dataclass(frozen=True)
class Step:
    """One block's turn: remove ``r`` tokens per image at block ``block`` of ``depth`` (blocks count from 0)."""

    r: int
    block: int
    depth: int


@dataclass(frozen=True)
class Schedule:
    """Tokens to remove at the entry of each block, resolved for one depth and one sequence length.

    counts: per block, tokens removed at its entry. start: tokens per image that enter the model.
    """

    counts: tuple[int, ...]
    start: int

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every block's turn, those that remove nothing included."""
        return tuple(Step(r, block, len(self.counts)) for block, r in enumerate(self.counts))

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
    operations: exact operations per image under a reduction and a schedule; None where nobody has counted.
    """

    depth: int
    tokens: int
    protected: int = 1
    first: int = 1
    features: frozenset[str] = frozenset({"X"})
    operations: Callable[[Reduction, Schedule], float] | None = None

    def whole(self) -> Schedule:
        """The schedule that removes nothing."""
        return Schedule((0,) * self.depth, self.tokens)

    def capacity(self, tokens: int) -> int:
        """The most of so many tokens that one reduction can remove: half of the patches, ⌊(l - protected)/2⌋."""
        return max(0, (tokens - self.protected) // 2)


def block_numbers(blocks: str, stack: Stack) -> range:
    """The blocks that reduce: ``even``, ``odd``, ``all``, or a Python slice such as ``6::6`` or ``2:12:2``.

    A Mamba's block 0 has no features to match by, so no selection includes it.
    """
    depth = stack.depth
    text = f"{stack.first}::1" if blocks == "all" else NAMED_BLOCKS.get(blocks, blocks)
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
            fix=f"use {', '.join(NAMED_BLOCKS)}, or start:stop:step such as 6::6",
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
    return chosen


def resolve(stack: Stack, *, r: int | Sequence[int] | None, ratio: float | None, blocks: str) -> Schedule:
    """Turn a constant r, a list per reducing block, or a target ratio into counts for one network.

    A constant r is cut to the capacity in late blocks where too few tokens are left (that is how the
    paper's r = 20 gives a ratio of 0.54); an r that not even the first reducing block can serve is an error.

    Raises:
        ConfigError: r or ratio out of reach, or a list of the wrong length.
    """
    depth, tokens = stack.depth, stack.tokens
    chosen = block_numbers(blocks, stack)
    if ratio is not None:
        return _for_ratio(ratio, chosen, stack)
    wanted = [r] * len(chosen) if isinstance(r, int) else list(r or ())
    if len(wanted) != len(chosen):
        raise ConfigError(
            "reduce by a list of counts",
            given=f"{len(wanted)} counts",
            why=f"blocks={blocks!r} selects {len(chosen)} of {depth} blocks: {list(chosen)}",
            fix=f"give {len(chosen)} counts, or one number for all",
        )
    left, counts = tokens, [0] * depth
    for place, (block, count) in enumerate(zip(chosen, wanted, strict=True)):
        room = stack.capacity(left)
        if count > room and (place == 0 or not isinstance(r, int)):
            raise ConfigError(
                f"remove {count} tokens at block {block}",
                given=f"{left} tokens there, {stack.protected} of them protected (class token)",
                why=f"one reduction can remove at most half of the patches, {room}",
                fix=f"use r ≤ {room} here, or reduce at more blocks",
            )
        counts[block] = min(count, room)
        left -= counts[block]
    return Schedule(tuple(counts), tokens)


def _for_ratio(ratio: float, chosen: range, stack: Stack) -> Schedule:
    """The near-constant schedule whose reduction ratio comes closest to the target."""
    low, high = 0.0, float(stack.capacity(stack.tokens))
    most = _evenly(high, chosen, stack)
    if ratio > most.ratio:
        raise ConfigError(
            f"reach a reduction ratio of {ratio:g}",
            given=f"{len(chosen)} reducing blocks of {stack.depth}, {stack.tokens} tokens",
            why=f"removing half of the tokens at each of them reaches {most.ratio:.3f}",
            fix="ask for less, or reduce at more or earlier blocks",
        )
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _evenly(middle, chosen, stack).ratio < ratio else (low, middle)
    return min((_evenly(r, chosen, stack) for r in (low, high)), key=lambda s: abs(s.ratio - ratio))


def _evenly(r: float, chosen: range, stack: Stack) -> Schedule:
    """Remove r tokens per reducing block on average: whole numbers whose running sum never lags by one."""
    left, counts = stack.tokens, [0] * stack.depth
    for place, block in enumerate(chosen):
        counts[block] = min(int((place + 1) * r) - int(place * r), stack.capacity(left))
        left -= counts[block]
    return Schedule(tuple(counts), stack.tokens)
