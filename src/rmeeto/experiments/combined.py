"""Findings that the statistics do not give in one piece: of several ladders or ratios, and of speeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rmeeto.analysis import Better, Counted, Finding, Ratio, Statement
from rmeeto.experiments.store import Speed


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


def judge_faster(claim: Better, pairs: Mapping[str, Sequence[Speed]]) -> Finding | Counted:
    """Whether models are faster than others that did not take turns with them.

    The machine may have changed in between, so there is no test: three quarters of the rounds of one must be faster
    than three quarters of the other's.
    """
    words, sentences = [], []
    for name, pair in pairs.items():
        left, right = (statistics.quantiles(one.images_per_second, n=4) for one in pair)
        words.append(1 if left[0] > right[2] else -1 if left[2] < right[0] else 0)
        sides = ((claim.left, left), (claim.right, right))
        figures = [
            f"{side}: {speed[1]:.0f} images/s, quartiles {speed[0]:.0f} to {speed[2]:.0f}" for side, speed in sides
        ]
        sentences.append((f"{name}: " if len(pairs) > 1 else "") + "; ".join(figures))
    shown = ". ".join(sentences)
    if all(word > 0 for word in words):
        return Counted(claim, True, f"{claim.left} is faster than {claim.right} ({shown}).", {})
    if any(word < 0 for word in words):
        return Counted(claim, False, f"{claim.left} is not faster than {claim.right} ({shown}).", {})
    undecided = Statement("the rounds overlap", shown)
    return Finding(claim, 1.0, 1.0, False, False, undecided, undecided, undecided, {})


def every(findings: Mapping[str, Finding]) -> Finding:
    """One finding that holds if each of several does, and fails if one surely does (Bonferroni)."""
    closest = max(findings, key=lambda name: findings[name].p_holds)
    worst = min(findings, key=lambda name: findings[name].p_fails)
    if len(findings) == 1:
        return findings[closest]
    names = " and ".join(findings) if len(findings) == 2 else ", ".join(findings)
    return Finding(
        findings[closest].claim,
        p_holds=findings[closest].p_holds,
        p_fails=min(1.0, len(findings) * findings[worst].p_fails),
        can_hold=all(finding.can_hold for finding in findings.values()),
        can_fail=any(finding.can_fail for finding in findings.values()),
        holds=located(findings[closest].holds, f"in {names}; in {closest}, "),
        fails=located(findings[worst].fails, f"in {worst}, "),
        undecided=located(findings[closest].undecided, f"in {closest}, "),
        figures={f"{name}: {part}": figure for name, one in findings.items() for part, figure in one.figures.items()},
    )


def located(statement: Statement, where: str) -> Statement:
    """A statement that begins with the place it is about."""
    return replace(statement, found=where + statement.found)
