"""How a schedule is made: which blocks reduce, and by how many tokens each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rmeeto.errors import ConfigError
from rmeeto.reduction.protocol import Schedule, Stack
from rmeeto.reduction.protocol import Step as Step  # the former version pickled it as schedule.Step

ROUNDING = 1e-9  # a running sum of floats that should be whole may fall this short


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
    names = named_blocks(stack)
    text, asked, given = names.get(blocks, blocks), "choose the blocks that reduce", f"blocks={blocks!r}"
    try:
        parts = [int(part) if part else None for part in text.split(":")]
        if len(parts) not in (2, 3):
            raise ValueError(text)
        chosen = range(stack.depth)[slice(*parts)]
    except ValueError:
        raise ConfigError(
            asked,
            given=given,
            why="it is neither a name nor a Python slice",
            fix=f"use {', '.join(names)}, or start:stop:step such as 6::6",
        ) from None
    if 0 in chosen and stack.first > 0:
        raise ConfigError(
            asked,
            given=given,
            why="block 0 has no block before it whose features could be compared",
            fix="start at 1 or later, for instance 1::1",
        )
    if len(chosen) == 0:
        raise ConfigError(
            asked,
            given=f"{given}, a model of {stack.depth} blocks",
            why="no block of this model is selected",
            fix="start earlier, or use r=0 to leave the model unreduced",
        )
    return chosen if chosen.step > 0 else chosen[::-1]


def listed(counts: Sequence[int], chosen: range, stack: Stack, *, minimum: int = 0) -> Schedule:
    """A count for each reducing block, lowered if fewer than ``minimum`` tokens would be left.

    Raises:
        ConfigError: a list of another length, or a count larger than a block can remove.
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
    return Schedule(tuple(removed), stack.tokens, stack.time, stack.grid)


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

    Counts are whole numbers, and their running sum lags the exact one by less than one token. A block can remove at
    most half of its patches, and leaves at least ``minimum`` tokens; what it cannot remove, the following blocks remove
    as far as they can. So a larger mean never leaves more tokens at any block.
    """
    left, due, counts = stack.tokens, 0.0, [0] * stack.depth
    for place, block in enumerate(chosen):
        due += mean * (1 + slope * _position(place, chosen))
        owed = math.floor(due + ROUNDING) - (stack.tokens - left)
        counts[block] = max(0, min(owed, stack.capacity(left), left - minimum))
        left -= counts[block]
    return Schedule(tuple(counts), stack.tokens, stack.time, stack.grid)


def _cut(count: int, left: int, minimum: int) -> int:
    """A count, lowered to what a minimum allows; without a minimum, too large a count stays and raises later."""
    return min(count, max(0, left - minimum)) if minimum else count


def _position(place: int, chosen: range) -> float:
    """From -1 at the first reducing block to 1 at the last."""
    return 2 * place / (len(chosen) - 1) - 1 if len(chosen) > 1 else 0.0


def check_room(count: int, block: int, left: int, stack: Stack) -> None:
    """Raise :class:`ConfigError` unless a block that sees ``left`` tokens can remove ``count`` of them."""
    room = stack.capacity(left)
    if count > room:
        raise ConfigError(
            f"remove {count} tokens at block {block}",
            given=f"{left} tokens there, {stack.protected} of them protected (class token)",
            why=f"one reduction can remove at most half of the patches, {room}",
            fix=f"use r ≤ {room} here, or reduce at more blocks",
        )
