"""Numbers as the sentences of verdicts write them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rmeeto.analysis.comparison import FEWEST_UNITS, Comparison


def decimal(value: float, digits: int) -> str:
    """A number with so many decimals and a true minus sign; never a negative zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def points(comparison: Comparison) -> str:
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
    """What a sentence adds if a difference decides nothing: why, and about which margin."""
    if not comparison.decidable:
        return f"and {count(comparison.n, comparison.unit)} cannot decide: it takes {FEWEST_UNITS}"
    about = f" about the margin of {abs(comparison.margin):g}" if comparison.margin else ""
    return f"which decides neither way{about}"


def place(found: Mapping[str, Comparison], name: str) -> str:
    """Which of several pairs it is; of a single one, nothing needs to be said."""
    return f" in {name}" if len(found) > 1 else ""


def facts(comparison: Comparison, test: str | None = None) -> str:
    """Interval, number of units and test, as they stand in brackets. test: another name of the test."""
    digits = _digits(comparison)
    interval = f"95 % interval {decimal(comparison.low, digits)} to {decimal(comparison.high, digits)}; "
    known = interval if math.isfinite(comparison.low) else ""
    return f"{known}{count(comparison.n, comparison.unit)}, {test or comparison.test}"


def capitalised(text: str) -> str:
    """A sentence's start with a capital letter, unless it is a symbol or a line such as r=5."""
    first = text.split(" ", 1)[0]
    word = first.rstrip(",").replace("-", "")
    return text[0].upper() + text[1:] if word.isalpha() and len(word) > 1 else text


def p_value(p: float) -> str:
    """A p-value with three digits."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.3g}"


def _digits(comparison: Comparison) -> int:
    return 2 if comparison.high - comparison.low < 1 else 1
