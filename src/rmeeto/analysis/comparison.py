"""The tests: how far a mean contrast is from a margin, and how surely it is on either side of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rmeeto.analysis.contrast import Contrast, Unit
from rmeeto.analysis.distributions import heads_tail
from rmeeto.analysis.mean import LEVEL, ROUNDING, SMALLEST_P
from rmeeto.checks import number

FEWEST_UNITS = 6  # with fewer, even units that all agree have a two-sided p above 5 %: 2/2⁵ = 0.0625
NO_TEST = "no test"  # stands in place of a test's name where none is possible
MOST_FLIPS = 16  # seeds up to which every pattern of signs is tried; beyond, as many are drawn

Leaning = Literal["towards", "against"]


@dataclass(frozen=True)
class Comparison:
    """A mean contrast with its error, against a margin. Differences are in points.

    low, high: the 95 % interval; infinite if there is one seed, or if all seeds have the same difference.
    p_above: one-sided p-value for a true difference above the margin; p_below: for one below it.
    test: which test gave them.
    decidable: whether any outcome of so many images or seeds could be significant; with fewer than six, none could.
    """

    unit: Unit
    n: int
    difference: float
    low: float
    high: float
    margin: float
    p_above: float
    p_below: float
    test: str
    decidable: bool

    def mirrored(self) -> Comparison:
        """The same with the sides exchanged."""
        return replace(
            self,
            difference=0.0 - self.difference,
            low=0.0 - self.high,
            high=0.0 - self.low,
            margin=0.0 - self.margin,
            p_above=self.p_below,
            p_below=self.p_above,
        )

    @property
    def p_two_sided(self) -> float:
        """The p-value for a true difference that is not the margin, on whichever side."""
        return two_sided(min(self.p_above, self.p_below))

    @property
    def tested(self) -> bool:
        """Whether there was a test at all; of a single seed there is none."""
        return self.test != NO_TEST

    @property
    def leaning(self) -> Leaning | None:
        """Whether the data point towards a difference above the margin, or against it.

        They do if the whole 95 % interval is on one side of the margin, or if the test is significant by itself. None
        if neither is so.
        """
        if self.low > self.margin or two_sided(self.p_above) <= LEVEL:
            return "towards"
        if self.high < self.margin or two_sided(self.p_below) <= LEVEL:
            return "against"
        return None

    @property
    def clearance(self) -> float:
        """How far the interval stays above the margin; negative if it does not."""
        return self.low - self.margin

    def to_dict(self) -> dict[str, Any]:
        """Its fields for JSON; an infinite end of the interval is None."""
        return {name: finite(value) for name, value in self.__dict__.items()}


@dataclass(frozen=True)
class Equivalence:
    """A mean contrast with its error, against a margin to either side of 0. Differences are in points.

    low, high: the 95 % interval; infinite if there is one seed, or if all seeds have the same difference.
    p_within: two-sided p-value for a true difference of less than the margin; p_outside: for one of more.
    test: which test gave them.
    decidable: whether any outcome of so many images or seeds could be significant; of one seed, none could.
    """

    unit: Unit
    n: int
    difference: float
    low: float
    high: float
    margin: float
    p_within: float
    p_outside: float
    test: str
    decidable: bool

    @property
    def tested(self) -> bool:
        """Whether there was a test at all; without an interval there is none."""
        return self.test != NO_TEST

    @property
    def leaning(self) -> Leaning | None:
        """Whether the interval lies wholly within the margin or wholly outside; None if it does neither."""
        if self.p_within <= LEVEL:
            return "towards"
        return "against" if self.p_outside <= LEVEL else None

    @property
    def clearance(self) -> float:
        """How far the interval stays within the margin; negative if it does not."""
        return self.margin - max(-self.low, self.high)

    def to_dict(self) -> dict[str, Any]:
        """Its fields for JSON; an infinite end of the interval is None."""
        return {name: finite(value) for name, value in self.__dict__.items()}


def compare(contrast: Contrast, margin: float = 0.0) -> Comparison:
    """A contrast against a margin in points.

    By image, against 0, for values of -1, 0 and 1: McNemar's exact test (Biometrika 1947, in its binomial form). Images
    on which both networks agree say nothing; of the others, half would go either way. Everything else by image: the
    bootstrap, which also gives every interval by image.

    By seed: two tests must agree. The sign-flip test (Fisher 1935) asks in how many of the 2ⁿ patterns of signs the
    mean would be as large; it assumes only that differences are symmetric about their mean. It decides whether one
    comparison is significant at all: three seeds never are (two-sided p at least 0.25), six only if all agree (0.031).
    But it cannot be corrected for several claims: twice 0.031 is above 5 %, and then six seeds could decide nothing in
    any table of two claims. So if the sign-flip test is significant by itself (two-sided 5 %), the p-value is that of
    Student's t test, which knows the size of the effect; otherwise it is the larger of both. The result is never below
    that of the t test, so it is valid for normal differences at every level, and for symmetric ones at 5 % for a
    claim by itself. If all seeds have the same difference there is no t test, and the sign-flip test stands alone.

    Raises:
        ConfigError: the margin is no finite number.
    """
    margin = number("compare with a margin", "margin", margin)
    if contrast.unit == "seed":
        above, below, test = _by_seed(contrast, margin)
    elif margin == 0 and _one_image_each(contrast.values):
        above, below = mcnemar(int((contrast.values > 0).sum()), int((contrast.values < 0).sum()))
        test = "exact McNemar test"
    else:
        above, below, test = contrast.mean.p_above(margin), contrast.mean.p_below(margin), "paired bootstrap"
    low, high = contrast.mean.interval()
    return Comparison(
        contrast.unit,
        contrast.n,
        contrast.mean.value,
        low,
        high,
        margin,
        above,
        below,
        test,
        contrast.n >= FEWEST_UNITS,
    )


def equivalence(contrast: Contrast, margin: float) -> Equivalence:
    """A contrast against a margin in points to either side of 0, above 0: two one-sided tests (Schuirmann 1987)."""
    mean = contrast.mean
    low, high = mean.interval()
    by = "bootstrap" if contrast.unit == "image" else "Student's t"
    return Equivalence(
        contrast.unit,
        contrast.n,
        mean.value,
        low,
        high,
        margin,
        two_sided(max(mean.p_above(-margin), mean.p_below(margin))),
        two_sided(min(mean.p_above(margin), mean.p_below(-margin))),
        f"equivalence test by {by}" if math.isfinite(low) else NO_TEST,
        contrast.unit == "image" or contrast.n > 1,
    )


def mcnemar(left_only: int, right_only: int) -> tuple[float, float]:
    """One-sided p-values for left above right and for left below right.

    left_only, right_only: images that only the left network, or only the right one, classifies correctly.
    """
    both = left_only + right_only
    return heads_tail(left_only, both), heads_tail(right_only, both)


def sign_flip(values: NDArray[np.float64]) -> tuple[float, float]:
    """One-sided p-values for a mean above 0 and below 0: the share of sign patterns with a sum as large, or as small.

    All patterns for up to 16 values; beyond, the observed pattern and 65,535 that are drawn from a fixed seed.
    """
    flips = _every_pattern(len(values)) if len(values) <= MOST_FLIPS else _some_patterns(len(values))
    sums, found = flips @ values, float(values.sum())
    tolerance = ROUNDING * float(np.abs(values).sum())
    return float((sums >= found - tolerance).mean()), float((sums <= found + tolerance).mean())


def two_sided(p: float) -> float:
    """A one-sided p-value, doubled because the other side is tested as well."""
    return min(1.0, 2 * p)


def told_apart(p: float) -> float:
    """A p-value, or the smallest that all tests can compute: which of two smaller ones is the larger means nothing."""
    return max(p, 2 * SMALLEST_P)


def finite(value: Any) -> Any:
    """The value, or None if it is an infinite number, for which JSON has no word."""
    return None if isinstance(value, float) and math.isinf(value) else value


def _one_image_each(values: NDArray[np.float64]) -> bool:
    """Whether every contrast is -1, 0 or 1 image."""
    sizes = np.abs(values)
    return bool(((sizes == 0) | (sizes == 100)).all())


def _by_seed(contrast: Contrast, margin: float) -> tuple[float, float, str]:
    if contrast.n == 1:
        return 1.0, 1.0, NO_TEST
    flips = sign_flip(contrast.values - margin)
    low, _ = contrast.mean.interval()
    if math.isinf(low):
        return *flips, "sign-flip test"
    above, below = (
        student if flip <= LEVEL / 2 else max(student, flip)
        for student, flip in zip((contrast.mean.p_above(margin), contrast.mean.p_below(margin)), flips, strict=True)
    )
    return above, below, "t test and sign-flip test"


def _every_pattern(n: int) -> NDArray[np.float64]:
    bits = np.arange(2**n)[:, None] >> np.arange(n)
    return np.where(bits & 1, -1.0, 1.0)


def _some_patterns(n: int) -> NDArray[np.float64]:
    flips = np.random.default_rng(0).choice([-1.0, 1.0], size=(2**MOST_FLIPS, n))
    flips[0] = 1.0
    return flips
