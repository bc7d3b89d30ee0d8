import math
from fractions import Fraction

import pytest

from rmeeto.analysis.distributions import heads_tail, incomplete_beta, student_quantile, student_tail

# Two-sided 5 % and 1 % points of Student's t, as every table prints them.
TABLE = {
    1: (12.706, 63.657),
    2: (4.303, 9.925),
    3: (3.182, 5.841),
    5: (2.571, 4.032),
    10: (2.228, 3.169),
    30: (2.042, 2.750),
    120: (1.980, 2.617),
}


@pytest.mark.parametrize("degrees", TABLE)
def test_students_quantiles_are_those_of_the_table(degrees):
    assert [round(student_quantile(p, degrees), 3) for p in (0.975, 0.995)] == pytest.approx(TABLE[degrees], abs=1e-9)


@pytest.mark.parametrize("t", [-3.0, -0.2, 0.0, 0.5, 2.0, 40.0, 1e4])
def test_students_tail_has_its_closed_forms(t):
    assert student_tail(t, 1) == pytest.approx(0.5 - math.atan(t) / math.pi, abs=1e-12)
    assert student_tail(t, 2) == pytest.approx(0.5 - t / (2 * math.sqrt(2 + t * t)), abs=1e-12)
    assert student_tail(t, 4) == pytest.approx(
        0.5 - (3 / 8) * t / math.sqrt(1 + t * t / 4) * (1 - t * t / (1 + t * t / 4) / 12), abs=1e-12
    )


@pytest.mark.parametrize("t", [0.1, 1.0, 1.96, 4.0])
def test_students_tail_becomes_the_normal_one(t):
    normal = 0.5 * math.erfc(t / math.sqrt(2))
    expansion = normal + (t**3 + t) / (4 * 100_000) * math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    assert student_tail(t, 100_000) == pytest.approx(expansion, rel=1e-6)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 3), (10, 4), (60, 90)])
@pytest.mark.parametrize("x", [0.0, 0.01, 0.4, 0.5, 0.93, 1.0])
def test_the_incomplete_beta_function_is_a_sum_of_binomial_terms(a, b, x):
    n = a + b - 1
    terms = sum(math.comb(n, k) * x**k * (1 - x) ** (n - k) for k in range(a, n + 1))
    assert incomplete_beta(x, a, b) == pytest.approx(terms, rel=1e-10, abs=1e-15)


@pytest.mark.parametrize(("heads", "tosses"), [(0, 0), (0, 5), (5, 5), (6, 10), (5, 10), (3, 10), (70, 100), (-1, 4)])
def test_heads_are_counted_exactly(heads, tosses):
    ways = sum(math.comb(tosses, k) for k in range(max(0, heads), tosses + 1))
    assert heads_tail(heads, tosses) == float(Fraction(ways, 2**tosses))


def test_ten_thousand_tosses_are_no_trouble():
    below, above = heads_tail(4_900, 10_000), heads_tail(5_100, 10_000)
    assert above == pytest.approx(0.5 * math.erfc(99.5 / 50 / math.sqrt(2)), rel=1e-3)
    assert below == pytest.approx(1 - heads_tail(5_101, 10_000), rel=1e-12)
