"""Findings that the statistics do not give in one piece: of several ladders or ratios, and of speeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from rmeeto.analysis import Better, Counted, Finding, Ratio, Statement
from rmeeto.analysis.comparison import told_apart
from rmeeto.analysis.mean import LEVEL
from rmeeto.analysis.words import corrected_away
from rmeeto.experiments.store import Speed

Said = TypeVar("Said", bound=Statement)


def judge_speedup(claim: Ratio, speed: Speed) -> Finding:
    """The speed-up over the unreduced model, which took turns with it."""
    return claim.judge(speed.images_per_second, speed.unreduced)


def judge_speedups(claim: Ratio, left: Speed, right: Speed) -> Finding:
    """The ratio of two speed-ups over the unreduced model, which took turns with each of them.

    The two did not take turns with each other, so its interval is narrower than what another run would give.
    """
    ratios = [
        [own / whole for own, whole in zip(one.images_per_second, one.unreduced, strict=True)] for one in (left, right)
    ]
    rounds = min(map(len, ratios))
    return claim.judge(ratios[0][:rounds], ratios[1][:rounds])


def judge_faster(claim: Better, pairs: Mapping[str, Sequence[Speed]]) -> Counted:
    """Whether models are faster than others that did not take turns with them.

    The machine may have changed in between, so there is no test and no p-value: three quarters of the rounds of one
    must be faster than three quarters of the other's. If they are neither faster nor slower, nothing is decided.
    """
    words, sentences = {}, []
    for name, pair in pairs.items():
        left, right = (statistics.quantiles(one.images_per_second, n=4) for one in pair)
        words[name] = 1 if left[0] > right[2] else -1 if left[2] < right[0] else 0
        sides = ((claim.left, left), (claim.right, right))
        figures = [
            f"{side}: {speed[1]:.0f} images/s, quartiles {speed[0]:.0f} to {speed[2]:.0f}" for side, speed in sides
        ]
        sentences.append((f"{name}: " if len(pairs) > 1 else "") + "; ".join(figures))
    shown = ". ".join(sentences)
    if all(word > 0 for word in words.values()):
        return Counted(claim, True, f"{claim.left} is faster than {claim.right} ({shown}).", {})
    if any(word < 0 for word in words.values()):
        return Counted(claim, False, f"{claim.left} is not faster than {claim.right} ({shown}).", {})
    where = f" in {_listed([name for name, word in words.items() if word == 0])}" if len(pairs) > 1 else ""
    return Counted(claim, None, f"The rounds overlap{where} ({shown}).", {})


def every(findings: Mapping[str, Finding]) -> Finding:
    """One finding that holds if each of several does, and fails if one surely does (Bonferroni).

    The least certain one is quoted. If both p-values are alike, or too small to be told apart, it is the one whose
    95 % interval comes closest to the margin.
    """
    closest = max(
        findings,
        key=lambda name: (told_apart(findings[name].p_holds), -findings[name].p_fails, -findings[name].clearance),
    )
    worst = min(findings, key=lambda name: findings[name].p_fails)
    if len(findings) == 1:
        return findings[closest]
    undecided = findings[closest].undecided
    if undecided.leaning == "against" and undecided.why is None and len(findings) * findings[closest].p_fails > LEVEL:
        undecided = replace(undecided, why=corrected_away(len(findings), "comparison"))
    return Finding(
        findings[closest].claim,
        p_holds=max(finding.p_holds for finding in findings.values()),
        p_fails=min(1.0, len(findings) * findings[worst].p_fails),
        can_hold=all(finding.can_hold for finding in findings.values()),
        can_fail=any(finding.can_fail for finding in findings.values()),
        holds=located(findings[closest].holds, f"in {_listed(list(findings))}; in the least certain, {closest}, "),
        fails=located(findings[worst].fails, f"in {worst}, "),
        undecided=located(undecided, f"in {closest}, "),
        figures={f"{name}: {part}": figure for name, one in findings.items() for part, figure in one.figures.items()},
        clearance=findings[closest].clearance,
    )


def located(statement: Said, where: str) -> Said:
    """A statement that begins with the place it is about."""
    return replace(statement, found=where + statement.found)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) == 2 else ", ".join(names)
