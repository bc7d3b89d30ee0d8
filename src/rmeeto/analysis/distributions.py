"""Student's t distribution and the fair coin, without scipy."""

from __future__ import annotations

import math
from functools import lru_cache

LEVELS = 100  # of the continued fraction: enough for ten digits up to thousands of degrees of freedom


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), for 0 ≤ x ≤ 1 and positive a and b.

    Its continued fraction (NIST Digital Library of Mathematical Functions, 8.17.22), evaluated from the inside out.
    """
    if x <= 0 or x >= 1:
        return float(x > 0)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side only
        return 1 - incomplete_beta(1 - x, b, a)
    value = 1.0
    for level in range(LEVELS, 0, -1):
        m = level // 2
        if level % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        value = 1 + term / value
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta) / (a * value)


def student_tail(t: float, degrees: int) -> float:
    """The probability that Student's t with so many degrees of freedom is at least ``t``."""
    if t < 0:
        return 1 - student_tail(-t, degrees)
    return 0.5 * incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5)


@lru_cache
def student_quantile(probability: float, degrees: int) -> float:
    """The t that Student's t stays below with this probability, which is at least one half and below one."""
    low, high = 0.0, 1.0
    while student_tail(high, degrees) > 1 - probability:
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        if student_tail(middle, degrees) > 1 - probability:
            low = middle
        else:
            high = middle
    return high


def heads_tail(heads: int, tosses: int) -> float:
    """The probability of at least so many heads in tosses of a fair coin, added up in whole numbers."""
    if heads > tosses - heads:  # the shorter of both tails
        return _ways(tosses - heads, tosses) / (1 << tosses)
    return 1.0 if heads <= 0 else ((1 << tosses) - _ways(heads - 1, tosses)) / (1 << tosses)


def _ways(most: int, tosses: int) -> int:
    """The number of sequences of tosses with at most ``most`` heads."""
    ways, total = 1, 1
    for heads in range(1, most + 1):
        ways = ways * (tosses - heads + 1) // heads
        total += ways
    return total
