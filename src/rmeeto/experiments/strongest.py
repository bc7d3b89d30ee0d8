"""The claims that the figures decide most clearly, for the top of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rmeeto.experiments.judge import Judged
from rmeeto.experiments.summary import Summary

FITTED = ", fitted"  # ends the name of a monotone claim's trend among its figures; the others are its steps


def strongest(summaries: Sequence[Summary], word: str, most: int) -> list[tuple[Summary, int]]:
    """The tables, and in each the claim, with this verdict whose 95 % interval stays farthest away from the margin.

    Claims about differences in points are ranked: by the pair that is nearest to the margin if all pairs must agree,
    and by the one that is farthest on the wrong side if one of them refutes the claim. Claims of other kinds have no
    such distance and are left out, and so are tables in nats, which are no points.
    """
    ranked = []
    for one in summaries:
        if any(column.measure == "nats" for column in one.table.columns):
            continue
        distances = [distance(judged) if judged.word == word else -math.inf for judged in one.judged]
        if (farthest := max(distances, default=-math.inf)) > -math.inf:
            ranked.append((farthest, one, distances.index(farthest)))
    ranked.sort(key=lambda entry: -entry[0])  # stable: equals stay in the order of the tables
    return [(one, number) for _, one, number in ranked[:most]]


def distance(judged: Judged) -> float:
    """How far a decided claim's interval is from its margin, in points; minus infinity if it has no such distance."""
    verdict = judged.verdict
    if verdict is None or verdict.kind not in ("better", "monotone"):
        return -math.inf
    figures = {name: one for name, one in verdict.figures.items() if "low" in one}
    trends = {name: one for name, one in figures.items() if name.endswith(FITTED)}
    if verdict.word == "holds":
        return min((_above(one) for one in (trends or figures).values()), default=-math.inf)
    return max((_below(one) for one in figures.values()), default=-math.inf)


def _above(figures: dict[str, Any]) -> float:
    return -math.inf if figures["low"] is None else float(figures["low"] - figures["margin"])


def _below(figures: dict[str, Any]) -> float:
    return -math.inf if figures["high"] is None else float(figures["margin"] - figures["high"])
