"""Claims that one side is better than the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rmeeto.analysis.comparison import Comparison, compare, told_apart, two_sided
from rmeeto.analysis.contrast import Contrast
from rmeeto.analysis.finding import Finding, Statement, Undecided, several
from rmeeto.analysis.mean import LEVEL
from rmeeto.analysis.words import above_margin, all_of, count, facts, neither, obstacle, place, points, signed
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

    def judge(self, pairs: Mapping[str, Contrast]) -> Finding:
        """What the pairs say: left minus right, by the name of each pair.

        Raises:
            ConfigError: no pairs.
        """
        found = {name: compare(pair, self.margin) for name, pair in several(self, pairs).items()}
        closest = max(found, key=lambda name: (told_apart(found[name].p_above), -found[name].clearance))
        worst = min(found, key=lambda name: found[name].p_below)
        decidable = sum(comparison.decidable for comparison in found.values())
        return Finding(
            self,
            p_holds=max(two_sided(pair.p_above) for pair in found.values()),
            p_fails=two_sided(max(1, decidable) * found[worst].p_below),
            can_hold=decidable == len(found),
            can_fail=decidable > 0,
            holds=self._holds(found, closest),
            fails=self._fails(found[worst], place(found, worst)),
            undecided=self._undecided(found, closest, max(1, decidable)),
            figures=found,
            clearance=found[closest].clearance,
        )

    def _holds(self, found: Mapping[str, Comparison], closest: str) -> Statement:
        which = f"in {all_of(len(found), 'pair')}; in the closest, {closest}, " if len(found) > 1 else ""
        if self.margin < 0:
            difference = f"{which}{self.left} minus {self.right} is {points(found[closest])}"
            return Statement(f"{difference}, above the margin of {signed(self.margin)}", facts(found[closest]))
        by = f"{which}by {points(found[closest])}{above_margin(self.margin)}"
        return Statement(f"{self.left} is {self.more} than {self.right} {by}", facts(found[closest]))

    def _fails(self, pair: Comparison, where: str) -> Statement:
        if self.margin:
            difference = f"{self.left} minus {self.right} is {points(pair)}{where}"
            return Statement(f"{difference}, less than the margin of {signed(self.margin)}", facts(pair))
        other_way = pair.mirrored()
        by = f"{points(other_way)}{where}"
        return Statement(f"{self.left} is {self.less} than {self.right} by {by}", facts(other_way))

    def _undecided(self, found: Mapping[str, Comparison], closest: str, tests: int) -> Undecided:
        pair = found[closest]
        difference = f"{self._sure(found)}{self.left} minus {self.right} is {points(pair)}{place(found, closest)}"
        if pair.leaning is None:
            return Undecided(difference, facts(pair), pair.tested, None, neither(pair))
        towards = pair.leaning == "towards"
        side = f", {'more' if towards else 'less'} than the margin of {signed(self.margin)}" if self.margin else ""
        why = obstacle(pair, pair.leaning, 1 if towards else tests)
        return Undecided(f"{difference}{side}", facts(pair), pair.tested, pair.leaning, why)

    def _sure(self, found: Mapping[str, Comparison]) -> str:
        """In how many of several pairs the left side is better, or worse, if each pair is tested by itself at 5 %.

        Empty for one pair, and where no pair could be sure.
        """
        able = [pair for pair in found.values() if pair.decidable]
        if len(found) == 1 or not able:
            return ""
        above, below = (
            sum(two_sided(p) <= LEVEL for p in side)
            for side in ([pair.p_above for pair in able], [pair.p_below for pair in able])
        )
        pairs = count(len(found), "pair")
        if self.margin:
            subject, more = f"{self.left} minus {self.right} is", f"above the margin of {signed(self.margin)}"
            less = "below it"
        else:
            subject, more, less = f"{self.left} is", f"{self.more} than {self.right}", self.less
        contrary = f" and surely {less} in {below}" if below else ""
        return f"{subject} surely {more} in {above or 'none'} of {pairs}{contrary}, each by itself; "
