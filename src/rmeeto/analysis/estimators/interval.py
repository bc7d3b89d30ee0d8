"""Student's interval of the mean of a few values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import fmean, stdev

LEVEL = 0.95


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The ends of the 95 % t interval of the mean of independent values; None if they are all alike, or only one.

    >>> mean_interval([1.0, 2.0, 3.0])
    (-0.4841377117503285, 4.4841377117503285)
    """
    if len({*values}) == 1:
        return None
    mean = fmean(values)
    reach = two_sided_t(LEVEL, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean - reach, mean + reach


@cache
def two_sided_t(level: float, freedom: int) -> float:
    """The t for which Student's law of so many degrees of freedom has this probability between -t and t."""
    low, high = 0.0, 1.0
    while probability_within(high, freedom) < level:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if probability_within(middle, freedom) < level else (low, middle)
    return (low + high) / 2


def probability_within(t: float, freedom: int) -> float:
    """Student's probability between -t and t (Abramowitz and Stegun, equations 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for number in range(1 + odd, 1 + odd + 2 * (freedom // 2), 2):
        total += term
        term *= cosine**2 * number / (number + 1)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
