"""Findings that the statistics do not give in one piece: of several ladders or ratios, and of speeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from rmeeto.analysis import Better, Counted, Finding, Monotone, Ratio, Statement
from rmeeto.experiments.store import Speed


@dataclass(frozen=True)
class TwoSpeeds:
    """Images per second of two models: quartiles and median of each. They were not measured in turns."""

    left: tuple[float, float, float]
    right: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(self.__dict__)


def judge_speedups(claim: Ratio, left: Speed, right: Speed) -> Finding:
    """The ratio of two speed-ups over the unreduced model, which took turns with each, round by round."""
    ratios = [
        [own / whole for own, whole in zip(one.images_per_second, one.unreduced, strict=True)] for one in (left, right)
    ]
    rounds = min(map(len, ratios))
    return claim.judge(ratios[0][:rounds], ratios[1][:rounds])


def judge_faster(claim: Better, left: Speed, right: Speed) -> Finding:
    """Whether a model is faster than another one that did not take turns with it.

    The machine may have changed in between, so there is no test: three quarters of the rounds of one must be faster
    than three quarters of the other's.
    """
    found = TwoSpeeds(*(tuple(statistics.quantiles(one.images_per_second, n=4)) for one in (left, right)))  # type: ignore[arg-type]
    faster, slower = found.left[0] > found.right[2], found.left[2] < found.right[0]
    figures = "; ".join(
        f"{name}: median {speed[1]:.0f} images/s, quartiles {speed[0]:.0f} to {speed[2]:.0f}"
        for name, speed in ((claim.left, found.left), (claim.right, found.right))
    )
    return Finding(
        claim,
        p_holds=0.0 if faster else 1.0,
        p_fails=0.0 if slower else 1.0,
        can_hold=True,
        can_fail=True,
        holds=Statement(f"{claim.left} is faster than {claim.right}", figures),
        fails=Statement(f"{claim.left} is slower than {claim.right}", figures),
        undecided=Statement(f"the rounds of {claim.left} and {claim.right} overlap", figures),
        figures={"images per second": found},
    )


def counted_ladders(claim: Monotone, ladders: Mapping[str, Sequence[tuple[str, float]]]) -> Counted:
    """Whether counted or predicted figures fall, or rise, at every step of every ladder. Nothing is left to chance."""
    sign = 1.0 if claim.direction == "rises" else -1.0
    wrong = [
        f"{name}: {before:.4g} at {first}, {after:.4g} at {second}"
        for name, ladder in ladders.items()
        for (first, before), (second, after) in pairwise(ladder)
        if sign * (after - before) <= 0
    ]
    if wrong:
        return Counted(claim, False, f"Not at every step: {wrong[0]}.", {})
    shown = "; ".join(f"{name}: {', '.join(f'{value:.4g}' for _, value in ladder)}" for name, ladder in ladders.items())
    return Counted(claim, True, f"The figure {claim.direction} at every step ({shown}).", {})


def every(findings: Mapping[str, Finding]) -> Finding:
    """One finding that holds if each of several does, and fails if one surely does (Bonferroni)."""
    closest = max(findings, key=lambda name: findings[name].p_holds)
    worst = min(findings, key=lambda name: findings[name].p_fails)
    if len(findings) == 1:
        return findings[closest]
    return Finding(
        findings[closest].claim,
        p_holds=findings[closest].p_holds,
        p_fails=min(1.0, len(findings) * findings[worst].p_fails),
        can_hold=all(finding.can_hold for finding in findings.values()),
        can_fail=any(finding.can_fail for finding in findings.values()),
        holds=located(findings[closest].holds, f"in all {len(findings)} of {', '.join(findings)}; in {closest}, "),
        fails=located(findings[worst].fails, f"in {worst}, "),
        undecided=located(findings[closest].undecided, f"in {closest}, "),
        figures={f"{name}: {part}": figure for name, one in findings.items() for part, figure in one.figures.items()},
    )


def located(statement: Statement, where: str) -> Statement:
    """A statement that begins with the place it is about."""
    return replace(statement, found=where + statement.found)
