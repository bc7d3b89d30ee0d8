"""Claims that there is no difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rmeeto.analysis.comparison import Comparison, compare, two_sided
from rmeeto.analysis.contrast import Contrast
from rmeeto.analysis.finding import Finding, Statement, several
from rmeeto.analysis.words import all_of, facts, place, points
from rmeeto.checks import number


@dataclass(frozen=True)
class Equal:
    """Both sides differ by less than the margin, in every pair (two one-sided tests, Schuirmann 1987).

    It holds if the whole 95 % interval of every pair lies within ± margin, and does not hold if that of one pair (wider
    for several pairs, by Bonferroni) lies wholly outside. The interval decides, for three seeds as well: Student's t
    already pays for so few with an interval 4.3 standard errors to either side, and no sign-flip test could confirm
    equality with fewer than six. Its price is that differences over seeds must be roughly normal, which three cannot
    show. From one seed, or from seeds that all differ alike, there is no interval, and nothing is decided.

    margin: in points, above 0.
    left, right: the two sides as words of a sentence.

    Raises:
        ConfigError: a margin that is not above 0.
    """

    kind: ClassVar[str] = "equal"

    text: str
    left: str
    right: str
    margin: float = 0.5

    def __post_init__(self) -> None:
        number(f"claim {self.text!r}", "margin", self.margin, least=0, open_ends=True)

    def judge(self, pairs: Mapping[str, Contrast]) -> Finding:
        """What the pairs say: left minus right, by the name of each pair.

        Raises:
            ConfigError: no pairs.
        """
        found = {name: compare(pair) for name, pair in several(self, pairs).items()}
        within = {name: self._p_within(pair) for name, pair in pairs.items()}
        outside = {name: self._p_outside(pair) for name, pair in pairs.items()}
        least, most = max(within, key=within.__getitem__), min(outside, key=outside.__getitem__)
        known = [pair.unit == "image" or pair.n > 1 for pair in pairs.values()]
        return Finding(
            self,
            p_holds=two_sided(within[least]),
            p_fails=two_sided(max(1, sum(known)) * outside[most]),
            can_hold=all(known),
            can_fail=any(known),
            holds=self._holds(found, least),
            fails=self._fails(found[most], place(found, most)),
            undecided=self._undecided(found[least], place(found, least)),
            figures=found,
        )

    def _p_within(self, pair: Contrast) -> float:
        return max(pair.mean.p_above(-self.margin), pair.mean.p_below(self.margin))

    def _p_outside(self, pair: Contrast) -> float:
        return min(pair.mean.p_above(self.margin), pair.mean.p_below(-self.margin))

    def _holds(self, found: Mapping[str, Comparison], least: str) -> Statement:
        which = f" in {all_of(len(found), 'pair')}; in the least certain, {least}, " if len(found) > 1 else ": "
        equal = f"{self.left} and {self.right} are equal within {self.margin:g} points{which}"
        return Statement(f"{equal}{self._difference(found[least])}", _facts(found[least]))

    def _fails(self, pair: Comparison, where: str) -> Statement:
        return Statement(f"{self._difference(pair)}{where}, surely outside of ± {self.margin:g}", _facts(pair))

    def _undecided(self, pair: Comparison, where: str) -> Statement:
        neither = f"neither surely within ± {self.margin:g} nor surely outside"
        return Statement(f"{self._difference(pair)}{where}, {neither}", _facts(pair))

    def _difference(self, pair: Comparison) -> str:
        return f"{self.left} minus {self.right} is {points(pair)}"


def _facts(pair: Comparison) -> str:
    by = "bootstrap" if pair.unit == "image" else "Student's t"
    return facts(pair, f"equivalence test by {by}")
