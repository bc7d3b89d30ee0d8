"""Claims about a measured ratio, such as a speed-up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from rmeeto.analysis.comparison import finite, two_sided
from rmeeto.analysis.contrast import vector
from rmeeto.analysis.finding import Finding, Statement, Undecided
from rmeeto.analysis.mean import LEVEL, StudentMean
from rmeeto.analysis.words import count
from rmeeto.checks import number
from rmeeto.errors import ConfigError


@dataclass(frozen=True)
class MeasuredRatio:
    """The geometric mean of paired ratios with its 95 % interval.

    unit: what a pair is, such as a round of a benchmark or a seed.
    low, high: 0 and infinity if there is one pair, or if all pairs have the same ratio.
    """

    unit: str
    n: int
    ratio: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Its fields for JSON; an infinite end of the interval is None."""
        return {name: finite(value) for name, value in self.__dict__.items()}


@dataclass(frozen=True)
class Ratio:
    """The ratio of two positive figures is the stated one, within a relative margin.

    An equivalence test on logarithms, where a ratio and its inverse are treated alike: the claim holds if the whole
    95 % interval lies between stated / (1 + margin) and stated · (1 + margin), and does not hold if it lies wholly
    outside. Both figures of a pair come from one round, so what slows both down cancels. Rounds that follow each other
    are taken as independent, which the slow drift of a machine's speed is not: spread the rounds out.

    stated: what the paper says, above 0. margin: relative, above 0; 0.1 is a tenth.

    Raises:
        ConfigError: a number that is not above 0.
    """

    kind: ClassVar[str] = "ratio"

    text: str
    stated: float
    margin: float = 0.1

    def __post_init__(self) -> None:
        number(f"claim {self.text!r}", "stated", self.stated, least=0, open_ends=True)
        number(f"claim {self.text!r}", "margin", self.margin, least=0, open_ends=True)

    def judge(self, left: ArrayLike, right: ArrayLike, unit: str = "round") -> Finding:
        """What left divided by right says. left, right: positive figures, pair by pair.

        Raises:
            ConfigError: lists of two lengths, or a figure that is not above 0.
        """
        asked = f"judge the claim {self.text!r}"
        above, below = vector(asked, "left", left), vector(asked, "right", right)
        if len(above) != len(below) or min(above.min(), below.min()) <= 0:
            raise ConfigError(
                asked,
                given=f"{len(above)} figures from {above.min():g} and {len(below)} from {below.min():g}",
                why="it takes two lists of the same length of figures above 0",
            )
        mean = StudentMean.of(np.log(above) - np.log(below))
        low, high = (math.exp(end) for end in mean.interval())
        found = MeasuredRatio(unit, len(above), math.exp(mean.value), low, high)
        least, most = math.log(self.stated / (1 + self.margin)), math.log(self.stated * (1 + self.margin))
        target, facts = f"within {100 * self.margin:g} % of {self.stated:g}", _facts(found)
        within = two_sided(max(mean.p_above(least), mean.p_below(most)))
        outside = two_sided(min(mean.p_above(most), mean.p_below(least)))
        return Finding(
            self,
            p_holds=within,
            p_fails=outside,
            can_hold=found.n > 1,
            can_fail=found.n > 1,
            holds=Statement(f"the ratio is {found.ratio:.3g}, {target}", facts),
            fails=Statement(f"the ratio is {found.ratio:.3g}, not {target}", facts),
            undecided=self._undecided(found, target, within, outside),
            figures={"ratio": found},
            clearance=min(mean.interval()[0] - least, most - mean.interval()[1]),
        )

    def _undecided(self, found: MeasuredRatio, target: str, within: float, outside: float) -> Undecided:
        ratio, tested = f"the ratio is {found.ratio:.3g}", math.isfinite(found.high)
        if within <= LEVEL:
            return Undecided(f"{ratio}, its whole interval {target}", _facts(found), tested, "towards")
        if outside <= LEVEL:
            return Undecided(f"{ratio}, its whole interval not {target}", _facts(found), tested, "against")
        return Undecided(ratio, _facts(found), tested, None, f"which is neither surely {target} nor outside")


def _facts(found: MeasuredRatio) -> str:
    rounds = count(found.n, f"paired {found.unit}")
    if math.isinf(found.high):
        return rounds
    interval = f"95 % interval {found.low:.3g} to {found.high:.3g}"
    return f"{interval}; {rounds}, equivalence test by Student's t of the logarithms"
