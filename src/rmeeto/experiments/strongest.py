"""The claims that the figures decide most clearly, for the top of the page."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rmeeto.experiments.definition import Claim
from rmeeto.experiments.judge import Judged
from rmeeto.experiments.summary import Summary

FITTED = ", fitted"  # ends the name of a monotone claim's trend among its figures; the others are its steps
DIGITS = 9  # figures that differ behind them are the same

Comparison = Mapping[str, Any]
Identity = tuple[Any, ...]


def strongest(
    summaries: Sequence[Summary], word: str, most: int, told: Collection[Judged] = ()
) -> list[tuple[Summary, int]]:
    """The tables, and in each the claim, with this verdict whose 95 % interval stays farthest away from the margin.

    Claims about differences in points are ranked: by the pair that is nearest to the margin if all pairs must agree,
    and by the one that is farthest on the wrong side if one of them refutes the claim. Ratios and counted figures have
    no such distance and are left out, and so are tables in nats, which are no points. A table gives one claim at most,
    and no comparison is quoted twice.

    told: claims that the page has shown before; they and their comparisons are left out.
    """
    ranked = sorted(_ranked(summaries, word), key=lambda entry: -entry[0])  # stable: equals stay in the tables' order
    quoted = {identity(one) for judged in told for one in comparisons(judged)}
    found: list[tuple[Summary, int]] = []
    for _, deciding, one, number in ranked:
        judged = one.judged[number]
        fresh = judged not in told and identity(deciding) not in quoted
        if fresh and len(found) < most and all(one is not other for other, _ in found):
            found.append((one, number))
            quoted |= {identity(other) for other in comparisons(judged)}
    return found


def _ranked(summaries: Iterable[Summary], word: str) -> Iterator[tuple[float, Comparison, Summary, int]]:
    """Each claim with this verdict that has a distance: the distance, the comparison that has it, and the claim."""
    for one in summaries:
        if any(column.measure == "nats" for column in one.table.columns):
            continue
        for number, judged in enumerate(one.judged):
            if judged.word == word and (deciding := nearest(judged)) is not None:
                yield (*deciding, one, number)


def nearest(judged: Judged) -> tuple[float, Comparison] | None:
    """How far a decided claim's interval is from its margin, in points, and in which comparison.

    None for kinds without such a distance, and if an interval is not known.
    """
    verdict = judged.verdict
    if verdict is None or verdict.kind not in ("better", "equal", "monotone"):
        return None
    holds = verdict.word == "holds"
    figures = {name: one for name, one in verdict.figures.items() if "low" in one}
    trends = {name: one for name, one in figures.items() if name.endswith(FITTED)}
    decisive = list((trends or figures).values()) if holds else list(figures.values())
    distances = [(distance(judged.claim, one, holds), one) for one in decisive]
    known = (min if holds else max)(distances, key=lambda pair: pair[0], default=(-math.inf, {}))
    return None if math.isinf(known[0]) else known


def distance(claim: Claim, figures: Comparison, holds: bool) -> float:
    """How far an interval is from the margin, on the side that decides; minus infinity if it is not known."""
    low, high, margin = figures["low"], figures["high"], figures["margin"]
    if low is None or high is None:
        return -math.inf
    if claim.kind == "equal":
        return float(claim.margin - max(abs(low), abs(high)) if holds else max(low, -high) - claim.margin)
    if claim.kind == "monotone" and not claim.rises:  # its figures are changes: a fall is below 0
        low, high, margin = -high, -low, -margin
    return float(low - margin if holds else margin - high)


def comparisons(judged: Judged) -> list[Comparison]:
    """The comparisons of a claim; none if it waits for cells, or if nothing was subtracted."""
    return [] if judged.verdict is None else [one for one in judged.verdict.figures.values() if "difference" in one]


def identity(figures: Comparison) -> Identity:
    """What is the same for the same comparison, made for whichever claim and with its sides in whichever order."""
    ways = [
        tuple(None if end is None else round(sign * end, DIGITS) + 0.0 for end in ends)
        for sign, ends in (
            (1, (figures["difference"], figures["low"], figures["high"])),
            (-1, (figures["difference"], figures["high"], figures["low"])),
        )
    ]
    return (figures["n"], *max(ways, key=str))
