"""Claims about mutual information: estimators are biased by more than most differences, so all of them must agree."""

from __future__ import annotations

from collections.abc import Mapping

from rmeeto.analysis import Better, Comparison, Contrast, Finding, Statement, compare
from rmeeto.analysis.comparison import two_sided
from rmeeto.analysis.words import count, decimal, facts, neither

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
        undecided=Statement(f"{sides} is {differences} nats, {_why(found)}", _facts(found, least_above)),
        figures=found,
    )


def nats(comparison: Comparison) -> str:
    """The difference."""
    return decimal(comparison.difference, DIGITS)


def margin(claim: Better) -> str:
    """What the difference is compared with, in words."""
    return f"the margin of {claim.margin:g} nats".replace("-", "−") if claim.margin else "0 nats"


def _why(found: Mapping[str, Comparison]) -> str:
    above = [comparison.difference > comparison.margin for comparison in found.values()]
    if any(above) and not all(above):
        return "and the estimates disagree on the sign"
    return neither(next(iter(found.values())))


def _facts(found: Mapping[str, Comparison], name: str) -> str:
    """Those of the estimate that decides least."""
    return facts(found[name]) if len(found) == 1 else f"{name}: {facts(found[name])}"
