"""Numbers as the sentences of verdicts write them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rmeeto.analysis.comparison import FEWEST_UNITS, Comparison, Equivalence, Leaning, two_sided
from rmeeto.analysis.mean import LEVEL

Measured = Comparison | Equivalence


def decimal(value: float, digits: int) -> str:
    """A number with so many decimals and a true minus sign; never a negative zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def signed(value: float) -> str:
    """A number with as many digits as it needs and a true minus sign."""
    return f"{value:g}".replace("-", "−")


def points(comparison: Measured) -> str:
    """The difference in points: one decimal, or two if the interval is narrower than a point."""
    shown = decimal(comparison.difference, _digits(comparison))
    return f"{shown} {'point' if shown in ('1.0', '1.00') else 'points'}"


def count(n: int, unit: str) -> str:
    """A number of things: 1 seed, 5,000 images."""
    return f"{n:,} {unit}{'' if n == 1 else 's'}"


def all_of(n: int, unit: str) -> str:
    """Every one of several things: both pairs, all 3 pairs."""
    return f"both {unit}s" if n == 2 else f"all {count(n, unit)}"


def above_margin(margin: float) -> str:
    """What a sentence adds if a difference is above a margin that is not 0."""
    return f", more than the margin of {margin:g}" if margin else ""


def neither(comparison: Comparison) -> str:
    """The end of a sentence about a difference that points neither way: why, and about which margin."""
    if not comparison.decidable:
        return f"and {too_few(comparison.n, comparison.unit)}"
    about = f" about the margin of {signed(comparison.margin)}" if comparison.margin else ""
    return f"which decides neither way{about}"


def obstacle(comparison: Comparison, leaning: Leaning, tests: int = 1, unit: str = "pair") -> str | None:
    """Why a difference decides nothing although it points towards the claim, or against it.

    tests, unit: how many tests of the same claim the p-value is corrected for, and what they are called.

    None if none of this is in the way; then the correction for the other claims of the table is.
    """
    if not comparison.decidable:
        return too_few(comparison.n, comparison.unit)
    p = two_sided(comparison.p_above if leaning == "towards" else comparison.p_below)
    if p > LEVEL:
        by_seed = comparison.unit == "seed"
        return "the two tests do not both agree" if by_seed else f"the {comparison.test} does not confirm it"
    return corrected_away(tests, unit) if tests * p > LEVEL else None


def too_few(n: int, unit: str, fewest: int = FEWEST_UNITS) -> str:
    """That so many images or seeds can decide nothing."""
    return f"{count(n, unit)} cannot decide: it takes {fewest}"


def corrected_away(n: int, unit: str) -> str:
    """That a difference is no longer significant after the correction for so many tests or claims."""
    return f"not surely after the correction for {count(n, unit)}"


def place(found: Mapping[str, Measured], name: str) -> str:
    """Which of several pairs it is; of a single one, nothing needs to be said."""
    return f" in {name}" if len(found) > 1 else ""


def facts(comparison: Measured, of: str = "") -> str:
    """Interval, number of units and test, if there was one, as they stand in brackets. of: what the interval is of."""
    digits = _digits(comparison)
    interval = f"95 % interval{of} {decimal(comparison.low, digits)} to {decimal(comparison.high, digits)}; "
    known = interval if math.isfinite(comparison.low) else ""
    test = f", {comparison.test}" if comparison.tested else ""
    return f"{known}{count(comparison.n, comparison.unit)}{test}"


def capitalised(text: str) -> str:
    """A sentence's start with a capital letter, unless it is a symbol or a line such as r=5."""
    first = text.split(" ", 1)[0]
    word = first.rstrip(",").replace("-", "")
    return text[0].upper() + text[1:] if word.isalpha() and len(word) > 1 else text


def p_value(p: float) -> str:
    """A p-value with three digits."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.3g}"


def _digits(comparison: Measured) -> int:
    return 2 if comparison.high - comparison.low < 1 else 1
