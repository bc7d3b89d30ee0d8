"""Search: counts per block that lower an objective within a budget. Plain numbers; knows no model.

Local search by exchange: remove fewer tokens at one block and, at another, as many more as the budget then needs.
Pairs of blocks are tried in random order, first with large amounts, then with smaller ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from random import Random
from typing import NamedTuple

Counts = tuple[int, ...]


class Searched(NamedTuple):
    """Each improvement in the order found, so the last is the best, and the number of evaluations."""

    path: tuple[Counts, ...]
    evaluations: int


def search(
    starts: Sequence[Counts],
    objective: Callable[[Counts], float],
    cost: Callable[[Counts], float],
    limit: float,
    *,
    evaluations: int,
    seed: int = 0,
) -> Searched:
    """Minimise an objective over counts that cost at most ``limit``; a function of the arguments alone.

    starts: counts within the limit; the search starts from the best of them. cost: falls as counts grow, and is
    infinite for impossible ones. evaluations: the most; fewer if no exchange of single tokens helps any more.
    """
    values: dict[Counts, float] = {}
    path: list[Counts] = []
    for start in dict.fromkeys(starts[:evaluations]):
        values[start] = objective(start)
        if not path or values[start] < values[path[-1]]:
            path.append(start)
    best = path[-1]
    random, pairs = Random(seed), list(permutations(range(len(best)), 2))
    amount = max(1, max(best, default=0) // 2)
    while True:
        before = best
        random.shuffle(pairs)
        for giver, taker in pairs:
            counts = exchange(best, giver, taker, amount, cost, limit)
            if counts is None or counts in values:
                continue
            if len(values) >= evaluations:
                return Searched(tuple(path), len(values))
            values[counts] = objective(counts)
            if values[counts] < values[best]:
                best = counts
                path.append(best)
        if best == before and amount == 1:
            return Searched(tuple(path), len(values))
        if best == before:
            amount //= 2


def exchange(
    counts: Counts, giver: int, taker: int, amount: int, cost: Callable[[Counts], float], limit: float
) -> Counts | None:
    """Remove up to ``amount`` tokens fewer at one block, and at another the fewest more that keep the limit.

    Returns None if there is no such exchange. A token kept at an early block costs at all later blocks, so a late block
    may have to remove several for it.
    """
    given = min(amount, counts[giver])
    if not given:
        return None
    changed = list(counts)
    changed[giver] -= given
    for more in range(given * len(counts) + 1):
        changed[taker] = counts[taker] + more
        if cost(tuple(changed)) <= limit:
            return tuple(changed)
    return None
