"""A mean with what is known of its error: its interval, and how well the data agree with any other value of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmeeto.analysis.distributions import student_quantile, student_tail

LEVEL = 0.05  # intervals cover 95 %, and a table's verdicts may be wrong in 5 %
ROUNDING = 1e-9  # two figures nearer than this share of their size are the same figure
SMALLEST_P = 1e-12  # below, the rounding of the Fourier transform begins


@dataclass(frozen=True)
class StudentMean:
    """A mean of independent, roughly normal numbers, by Student's t.

    How wrong it may be if they are not normal: the share of 95 % intervals that miss on one side, 2.5 % for normal
    numbers, is 3.9 % for three uniform numbers, 1.9 % for heavy tails (t with 3 degrees), but 6 to 11 % for three
    numbers, and 9 to 11 % for six, from lopsided distributions (exponential; one training in ten fails).

    spread: the standard error. None if it cannot be estimated, from one number or from numbers that are all alike; then
        the interval is the whole line, and every p-value is 1.
    """

    value: float
    spread: float | None
    degrees: int

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> StudentMean:
        """The mean of at least one number."""
        mean, degrees = float(values.mean()), len(values) - 1
        deviation = float(values.std(ddof=1)) if degrees else 0.0
        alike = deviation <= ROUNDING * max(1.0, float(np.abs(values).max()))
        return cls(mean, None if alike else deviation / math.sqrt(len(values)), degrees)

    def p_above(self, bound: float) -> float:
        """One-sided p-value for a true mean above a bound: how often a true mean at most there would give such data."""
        return 1.0 if self.spread is None else student_tail((self.value - bound) / self.spread, self.degrees)

    def p_below(self, bound: float) -> float:
        """One-sided p-value for a true mean below a bound."""
        return 1.0 if self.spread is None else student_tail((bound - self.value) / self.spread, self.degrees)

    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        if self.spread is None:
            return -math.inf, math.inf
        reach = student_quantile(1 - LEVEL / 2, self.degrees) * self.spread
        return self.value - reach, self.value + reach


@dataclass(frozen=True, eq=False)
class BootstrapMean:
    """A mean over images with the bootstrap's percentile interval (Efron and Tibshirani 1993, chapter 13).

    The images are drawn anew with replacement, infinitely often: the distribution of the mean is computed instead of
    sampled. The values lie on a grid of equal steps, so the sum of n draws is the n-th power of one draw's Fourier
    transform. There is no seed, and no error of resampling. Values on no grid of up to 1,000 steps are rounded to one
    of 1,000, which moves the mean by far less than its error.

    Before drawing, one image with the largest possible contrast and one with the smallest are added to the data. A
    bootstrap knows only what occurred: without them, ten images on which two networks agree would give an interval of
    no width. In simulations from 200 to 5,000 images they lower the share of intervals that miss on one side from up to
    37 % to at most 3.4 % (2.5 % is meant), where few images differ; where many do, they change nothing visible.
    The 3.4 % belong to differences that all go one way.

    value: the mean of the data themselves, in points.
    means, chances: the possible means of a resample in rising order, and how probable each is.
    """

    value: float
    means: NDArray[np.float64]
    chances: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64], largest: float) -> BootstrapMean:
        """The mean of at least one number. largest: the largest absolute value that a number can have."""
        distinct, counts = np.unique(np.concatenate([values, [-largest, largest]]), return_counts=True)
        steps = _steps(distinct / largest)
        places = np.rint(distinct / largest * steps).astype(np.int64)
        sums, chances = _sum_of_draws(places, counts / counts.sum(), len(values))
        means = sums.astype(np.float64) * np.float64(largest / steps / len(values))
        return cls(float(values.mean()), means, chances)

    def p_above(self, bound: float) -> float:
        """One-sided p-value for a true mean above a bound: the share of resamples whose mean is not above it."""
        return _probability(self.chances[self.means <= bound + ROUNDING * max(1.0, abs(bound))])

    def p_below(self, bound: float) -> float:
        """One-sided p-value for a true mean below a bound: the share of resamples whose mean is not below it."""
        return _probability(self.chances[self.means >= bound - ROUNDING * max(1.0, abs(bound))])

    def interval(self) -> tuple[float, float]:
        """The 95 % interval: the bounds that neither p-value rejects at 2.5 %."""
        low = np.searchsorted(np.cumsum(self.chances), LEVEL / 2, side="right")
        high = np.searchsorted(np.cumsum(self.chances[::-1]), LEVEL / 2, side="right")
        return float(self.means[low]), float(self.means[::-1][high])


def _steps(shares: NDArray[np.float64]) -> int:
    """The fewest steps of equal width from 0 to 1 on which all shares lie, or 1,000."""
    for steps in range(1, 1000):
        if np.abs(shares[:50] * steps - np.rint(shares[:50] * steps)).max() < ROUNDING and (
            np.abs(shares * steps - np.rint(shares * steps)).max() < ROUNDING
        ):
            return steps
    return 1000


def _sum_of_draws(
    places: NDArray[np.int64], chances: NDArray[np.float64], draws: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The possible sums of so many independent draws of whole numbers, and how probable each is.

    The transform wraps around; what wraps is farther than twelve standard deviations and forty largest numbers away,
    and by Bernstein's inequality rarer than SMALLEST_P.
    """
    mean = float(places @ chances)
    deviation = math.sqrt(draws * float((places - mean) ** 2 @ chances))
    reach = math.ceil(12 * deviation + 40 * int(np.abs(places).max()))
    length = 1 << (2 * reach).bit_length()
    one = np.zeros(length)
    np.add.at(one, places % length, chances)
    transform = np.fft.rfft(one)
    power = np.abs(transform) ** draws * np.exp(1j * draws * np.angle(transform))
    sums = round(draws * mean) + np.arange(-(length // 2), length // 2)
    return sums, np.maximum(np.fft.irfft(power, length)[sums % length], 0.0)


def _probability(chances: NDArray[np.float64]) -> float:
    return min(1.0, max(SMALLEST_P, float(chances.sum())))
