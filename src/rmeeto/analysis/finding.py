"""What the measurements say of one claim, before the other claims of its table are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

from rmeeto.analysis.comparison import Leaning
from rmeeto.errors import ConfigError

T = TypeVar("T")


class Claim(Protocol):
    """A claim of the paper: its sentence, and its kind in one word."""

    kind: ClassVar[str]

    @property
    def text(self) -> str:
        """The claim in one sentence."""


class Figures(Protocol):
    """The figures of one comparison."""

    def to_dict(self) -> dict[str, Any]:
        """The figures for JSON."""


@dataclass(frozen=True)
class Statement:
    """A sentence without its end: what was found, and the facts that stand in brackets behind it.

    tested: whether the facts name a test; without one, no p-value is printed.
    """

    found: str
    facts: str
    tested: bool = True


@dataclass(frozen=True)
class Undecided(Statement):
    """What is said if nothing is decided.

    leaning: whether the data point towards the claim or against it; None if they do neither.
    why: what is in the way, as the end of the sentence. None if that is nothing but the correction for the other claims
        of the table, which only the table's verdicts know; then there is a leaning.
    """

    leaning: Leaning | None = None
    why: str | None = None


@dataclass(frozen=True)
class Finding:
    """A claim that needs statistics.

    p_holds, p_fails: two-sided p-values, uncorrected, for the claim being true and for its being false.
    can_hold, can_fail: whether any outcome of so many images or seeds could have decided that way.
    holds, fails, undecided: what to say in each case.
    figures: by the name of the comparison.
    clearance: how far the 95 % interval stays on the claim's side of the margin, negative if it does not. Of findings
        whose p-values are too small to tell apart, the least certain one has the smallest.
    """

    claim: Claim
    p_holds: float
    p_fails: float
    can_hold: bool
    can_fail: bool
    holds: Statement
    fails: Statement
    undecided: Undecided
    figures: Mapping[str, Figures]
    clearance: float = 0.0


@dataclass(frozen=True)
class Counted:
    """A claim that counting decides, without chance. holds: None if counting leaves it undecided."""

    claim: Claim
    holds: bool | None
    sentence: str
    figures: Mapping[str, Figures]


@dataclass(frozen=True)
class Untestable:
    """A claim whose cells do not exist at this scale. reason: why, as a sentence."""

    claim: Claim
    reason: str


def several(claim: Claim, found: Mapping[str, T]) -> Mapping[str, T]:
    """The mapping itself, unless it is empty.

    Raises:
        ConfigError: there is nothing to judge the claim by.
    """
    if not found:
        raise ConfigError(
            f"judge the claim {claim.text!r}",
            given="no comparisons",
            why="a claim is judged by at least one",
            fix="a claim whose cells do not exist at this scale is Untestable(claim, reason)",
        )
    return found
