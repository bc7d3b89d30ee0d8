"""Claims that one side is better than the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rmeeto.analysis.comparison import Comparison, compare, two_sided
from rmeeto.analysis.contrast import Contrast
from rmeeto.analysis.finding import Finding, Statement, several
from rmeeto.analysis.words import above_margin, all_of, facts, neither, place, points
from rmeeto.checks import number


@dataclass(frozen=True)
class Better:
    """The left side is above the right one by more than the margin, in every pair.

    It holds if every pair says so, each at the full level: the p-value is the largest (intersection-union test, Berger
    1982). It does not hold if one pair is surely below the margin: the smallest p-value, times the number of pairs.

    margin: in points. A negative one is what the left side may lose at most: "drops by no more than 0.9".
    left, right: the two sides as words of a sentence.
    more, less: what a larger and a smaller figure is called, such as "higher" and "lower" for losses of accuracy.

    Raises:
        ConfigError: a margin that is no finite number.
    """

    kind: ClassVar[str] = "better"

    text: str
    left: str
    right: str
    margin: float = 0.0
    more: str = "better"
    less: str = "worse"

    def __post_init__(self) -> None:
        number(f"claim {self.text!r}", "margin", self.margin)

    @property
    def _margin(self) -> str:
        return f"{self.margin:g}".replace("-", "−")

    def judge(self, pairs: Mapping[str, Contrast]) -> Finding:
        """What the pairs say: left minus right, by the name of each pair.

        Raises:
            ConfigError: no pairs.
        """
        found = {name: compare(pair, self.margin) for name, pair in several(self, pairs).items()}
        closest = max(found, key=lambda name: found[name].p_above)
        worst = min(found, key=lambda name: found[name].p_below)
        decidable = sum(comparison.decidable for comparison in found.values())
        return Finding(
            self,
            p_holds=two_sided(found[closest].p_above),
            p_fails=two_sided(max(1, decidable) * found[worst].p_below),
            can_hold=decidable == len(found),
            can_fail=decidable > 0,
            holds=self._holds(found, closest),
            fails=self._fails(found[worst], place(found, worst)),
            undecided=self._undecided(found[closest], place(found, closest)),
            figures=found,
        )

    def _holds(self, found: Mapping[str, Comparison], closest: str) -> Statement:
        which = f"in {all_of(len(found), 'pair')}; in the closest, {closest}, " if len(found) > 1 else ""
        if self.margin < 0:
            difference = f"{which}{self.left} minus {self.right} is {points(found[closest])}"
            return Statement(f"{difference}, above the margin of {self._margin}", facts(found[closest]))
        by = f"{which}by {points(found[closest])}{above_margin(self.margin)}"
        return Statement(f"{self.left} is {self.more} than {self.right} {by}", facts(found[closest]))

    def _fails(self, pair: Comparison, where: str) -> Statement:
        if self.margin:
            difference = f"{self.left} minus {self.right} is {points(pair)}{where}"
            return Statement(f"{difference}, less than the margin of {self._margin}", facts(pair))
        other_way = pair.mirrored()
        by = f"{points(other_way)}{where}"
        return Statement(f"{self.left} is {self.less} than {self.right} by {by}", facts(other_way))

    def _undecided(self, pair: Comparison, where: str) -> Statement:
        return Statement(f"{self.left} minus {self.right} is {points(pair)}{where}, {neither(pair)}", facts(pair))
