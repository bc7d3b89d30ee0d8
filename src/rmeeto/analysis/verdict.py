"""One of four words for each claim of a table, with the figures that decide it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rmeeto.analysis.finding import Counted, Figures, Finding, Statement, Undecided, Untestable
from rmeeto.analysis.mean import LEVEL
from rmeeto.analysis.words import capitalised, corrected_away, p_value

Word = Literal["holds", "does not hold", "undecided", "not testable here"]
COUNTED: dict[bool | None, Word] = {True: "holds", False: "does not hold", None: "undecided"}


@dataclass(frozen=True)
class Verdict:
    """The verdict on one claim.

    claim: its sentence; kind: better, equal, monotone, ratio or printed.
    sentence: what was found, with the figures that decide.
    p: the two-sided p-value after Holm's correction, of the side that it is nearer to; None without a test.
    corrected_for: how many claims of the table the correction counts.
    figures: each comparison's name and its figures.
    decidable: whether any outcome of so many images or seeds could have decided it, one way or the other.
    """

    claim: str
    kind: str
    word: Word
    sentence: str
    p: float | None = None
    corrected_for: int | None = None
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    decidable: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Its fields for JSON."""
        return dict(self.__dict__)


def verdicts(findings: Sequence[Finding | Counted | Untestable]) -> list[Verdict]:
    """The verdicts on all claims of one table, in their order.

    Two families of tests share a table: one for "holds", one for "does not hold". Each is corrected by Holm's method
    (Scandinavian Journal of Statistics 1979) over the claims that need statistics. p-values are two-sided and compared
    with 5 %, so either family goes wrong in at most 2.5 % of all tables, and a table has a wrong verdict in at most
    5 %, whatever is true. That is a promise for one table: of a paper's thirty, one or two may well have one.

    A claim that no outcome of its images or seeds could decide, such as a difference of three seeds, takes no part in
    the correction (Tarone 1990): it cannot go wrong.

    Undecided means that these data do not tell. It does not mean that the claim is false, or that there is no effect.
    """
    statistical = [finding for finding in findings if isinstance(finding, Finding)]
    holding = _corrected([(f.p_holds, f.can_hold) for f in statistical])
    failing = _corrected([(f.p_fails, f.can_fail) for f in statistical])
    decided = iter([_verdict(*each) for each in zip(statistical, holding, failing, strict=True)])
    return [next(decided) if isinstance(finding, Finding) else _certain(finding) for finding in findings]


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected for their number, in the same order: each may be compared with the level by itself."""
    corrected, largest = list(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = largest
    return corrected


@dataclass(frozen=True)
class _Corrected:
    p: float
    claims: int
    decidable: bool

    @property
    def significant(self) -> bool:
        return self.decidable and self.p <= LEVEL


def _corrected(family: list[tuple[float, bool]]) -> list[_Corrected]:
    """The family's p-values after Holm; those that could not be small stay as they are, and do not count."""
    inner = iter(holm([p for p, decidable in family if decidable]))
    claims = sum(decidable for _, decidable in family)
    return [_Corrected(next(inner), claims, True) if can else _Corrected(p, 1, False) for p, can in family]


def _verdict(finding: Finding, holding: _Corrected, failing: _Corrected) -> Verdict:
    if failing.significant:
        return _worded(finding, "does not hold", finding.fails, failing)
    if holding.significant:
        return _worded(finding, "holds", finding.holds, holding)
    said = _explained(finding.undecided, holding, failing)
    undecided = _worded(finding, "undecided", said, min(holding, failing, key=lambda side: side.p))
    return replace(undecided, decidable=holding.decidable or failing.decidable)


def _explained(said: Undecided, holding: _Corrected, failing: _Corrected) -> Statement:
    """The sentence with its end: what is in the way, the correction for the table's other claims if nothing else is."""
    if said.leaning is None:
        return replace(said, found=f"{said.found}, {said.why}")
    side = holding if said.leaning == "towards" else failing
    why = said.why or corrected_away(side.claims, "claim")
    return replace(said, found=f"{said.found}, which points {said.leaning} the claim, but {why}")


def _worded(finding: Finding, word: Word, said: Statement, side: _Corrected) -> Verdict:
    if not said.tested:
        return _made(finding, word, f"{capitalised(said.found)} ({said.facts}).", finding.figures)
    correction = f" after Holm's correction for {side.claims} claims" if side.claims > 1 else ""
    sentence = f"{capitalised(said.found)} ({said.facts}, {p_value(side.p)}{correction})."
    return _made(finding, word, sentence, finding.figures, side.p, side.claims)


def _certain(finding: Counted | Untestable) -> Verdict:
    if isinstance(finding, Untestable):
        return _made(finding, "not testable here", finding.reason, {})
    return _made(finding, COUNTED[finding.holds], finding.sentence, finding.figures)


def _made(
    finding: Finding | Counted | Untestable,
    word: Word,
    sentence: str,
    figures: Any,
    p: float | None = None,
    claims: int | None = None,
) -> Verdict:
    shown: dict[str, Figures] = dict(figures)
    by_name = {name: comparison.to_dict() for name, comparison in shown.items()}
    return Verdict(finding.claim.text, finding.claim.kind, word, sentence, p, claims, by_name)
