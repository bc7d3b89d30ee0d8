"""Claims about mutual information: estimators are biased by more than most differences, so all of them must agree."""

from __future__ import annotations

from collections.abc import Mapping

from rmeeto.analysis import Better, Comparison, Contrast, Finding, Statement, Undecided, compare
from rmeeto.analysis.comparison import two_sided
from rmeeto.analysis.words import count, decimal, facts, neither, obstacle, signed, too_few

DIGITS = 2
UNIT = " (nats)"  # ends the titles of columns; sentences have it once


def judge_nats(claim: Better, pairs: Mapping[str, Contrast]) -> Finding:
    """Whether the left side has more information than the right one, in nats.

    It holds if every estimator says so, each at the full level, and does not hold if every estimator says the
    contrary: the p-values are the largest (intersection-union test, Berger 1982). If estimators disagree, nothing is
    known. pairs: left minus right by seed, by the estimator's title.
    """
    found = {name.removesuffix(UNIT): compare(pair, claim.margin) for name, pair in pairs.items()}
    least_above = max(found, key=lambda name: found[name].p_above)
    least_below = max(found, key=lambda name: found[name].p_below)
    decidable = all(comparison.decidable for comparison in found.values())
    differences = ", ".join(f"{name} {nats(one)}" for name, one in found.items())
    which = f"by all {count(len(found), 'estimate')}" if len(found) > 1 else "by the estimate"
    sides = f"{claim.left} minus {claim.right}"
    return Finding(
        claim,
        p_holds=two_sided(found[least_above].p_above),
        p_fails=two_sided(found[least_below].p_below),
        can_hold=decidable,
        can_fail=decidable,
        holds=Statement(f"{sides} is above {margin(claim)} {which}: {differences}", _facts(found, least_above)),
        fails=Statement(f"{sides} is below {margin(claim)} {which}: {differences}", _facts(found, least_below)),
        undecided=_undecided(f"{sides} is {differences} nats", found, least_above, least_below),
        figures=found,
    )


def nats(comparison: Comparison) -> str:
    """The difference."""
    return decimal(comparison.difference, DIGITS)


def margin(claim: Better) -> str:
    """What the difference is compared with, in words."""
    return f"the margin of {signed(claim.margin)} nats" if claim.margin else "0 nats"


def _undecided(sides: str, found: Mapping[str, Comparison], least_above: str, least_below: str) -> Undecided:
    """Which estimates find a difference, or what is in the way if all of them find the same one."""
    leanings = {comparison.leaning for comparison in found.values()}
    if len(leanings) > 1 or (len(found) > 1 and leanings == {None}):
        return Undecided(sides, _facts(found, least_above), found[least_above].tested, why=_disagreement(found))
    (leaning,) = leanings
    least = least_below if leaning == "against" else least_above
    comparison = found[least]
    why = neither(comparison) if leaning is None else obstacle(comparison, leaning)
    return Undecided(sides, _facts(found, least), comparison.tested, leaning, why)


def _disagreement(found: Mapping[str, Comparison]) -> str:
    names = [name for name, comparison in found.items() if comparison.leaning is not None]
    if {"towards", "against"} <= {comparison.leaning for comparison in found.values()}:
        return "and the estimates disagree on the sign"
    some = next(iter(found.values()))
    what = f"a difference from {signed(some.margin)} nats" if some.margin else "a difference"
    finds = f"only {' and '.join(names)} {'finds' if len(names) == 1 else 'find'}" if names else "no estimate finds"
    return f"and {finds} {what}" + ("" if some.decidable else f"; {too_few(some.n, some.unit)}")


def _facts(found: Mapping[str, Comparison], name: str) -> str:
    """Those of the estimate that decides least."""
    return facts(found[name]) if len(found) == 1 else f"{name}: {facts(found[name])}"
