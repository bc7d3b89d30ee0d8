"""How many claims have which verdict: the paper's measured ones, its counted ones, and ours."""

from __future__ import annotations

from collections.abc import Sequence

from rmeeto.experiments.definition import Claim, Table
from rmeeto.experiments.summary import Summary

MEASURED, COUNTED, OURS = "the paper’s, measured", "the paper’s, counted", "ours"


def tally(summaries: Sequence[Summary]) -> list[tuple[str, dict[str, int]]]:
    """Each group that has claims, in the order above, with the number of its claims by their word."""
    words: dict[str, list[str]] = {MEASURED: [], COUNTED: [], OURS: []}
    for one in summaries:
        for judged in one.judged:
            words[group_of(one.table, judged.claim)].append(judged.word)
    return [(group, {word: own.count(word) for word in dict.fromkeys(own)}) for group, own in words.items() if own]


def group_of(table: Table, claim: Claim) -> str:
    """Whose claim it is, and whether it is decided by counting."""
    if table.beyond:
        return OURS
    return COUNTED if claim.kind == "printed" else MEASURED
