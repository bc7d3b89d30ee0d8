"""Claims that there is no difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rmeeto.analysis.comparison import Equivalence, equivalence, told_apart
from rmeeto.analysis.contrast import Contrast
from rmeeto.analysis.finding import Finding, Statement, Undecided, several
from rmeeto.analysis.mean import LEVEL
from rmeeto.analysis.words import all_of, corrected_away, count, facts, place, points, too_few
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
        found = {name: equivalence(pair, self.margin) for name, pair in several(self, pairs).items()}
        least = max(
            found, key=lambda name: (told_apart(found[name].p_within), -found[name].p_outside, -found[name].clearance)
        )
        most = min(found, key=lambda name: found[name].p_outside)
        decidable = sum(pair.decidable for pair in found.values())
        return Finding(
            self,
            p_holds=max(pair.p_within for pair in found.values()),
            p_fails=min(1.0, max(1, decidable) * found[most].p_outside),
            can_hold=decidable == len(found),
            can_fail=decidable > 0,
            holds=self._holds(found, least),
            fails=self._fails(found[most], place(found, most)),
            undecided=self._undecided(found[least], place(found, least), decidable),
            figures=found,
            clearance=found[least].clearance,
        )

    def _holds(self, found: Mapping[str, Equivalence], least: str) -> Statement:
        which = f" in {all_of(len(found), 'pair')}; in the least certain, {least}, " if len(found) > 1 else ": "
        equal = f"{self.left} and {self.right} are equal within {self.margin:g} points{which}"
        return Statement(f"{equal}{self._difference(found[least])}", facts(found[least]))

    def _fails(self, pair: Equivalence, where: str) -> Statement:
        return Statement(f"{self._difference(pair)}{where}, surely outside of ± {self.margin:g}", facts(pair))

    def _undecided(self, pair: Equivalence, where: str, tests: int) -> Undecided:
        difference = f"{self._difference(pair)}{where}"
        if pair.leaning is None:
            return Undecided(difference, facts(pair), pair.tested, None, self._neither(pair))
        side = "within" if pair.leaning == "towards" else "outside of"
        shared = pair.leaning == "against" and tests * pair.p_outside > LEVEL
        why = corrected_away(tests, "pair") if shared else None
        found = f"{difference}, its whole interval {side} ± {self.margin:g}"
        return Undecided(found, facts(pair), pair.tested, pair.leaning, why)

    def _neither(self, pair: Equivalence) -> str:
        if not pair.decidable:
            return f"and {too_few(pair.n, pair.unit, 2)}"
        if not pair.tested:
            return f"and {count(pair.n, pair.unit)} that all differ alike cannot decide"
        return f"neither surely within ± {self.margin:g} nor surely outside"

    def _difference(self, pair: Equivalence) -> str:
        return f"{self.left} minus {self.right} is {points(pair)}"
