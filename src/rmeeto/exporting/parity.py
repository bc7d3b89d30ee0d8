"""What the gate found, as values: one row for a runtime at a batch size, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rmeeto.errors import RmeetoError


@dataclass(frozen=True)
class Difference:
    """A plan that is not that of float64. input: its name. block: the first that differs.

    margin: by how much of the scale of similarities the runtime's choice is the worse one; infinite if it is no choice
    that the method could make.
    """

    input: str
    block: int
    margin: float


@dataclass(frozen=True)
class Row:
    """One runtime at one batch size.

    gated: whether a failure fails the export. inputs: that were compared. plans_equal: of how many every plan is that
    of float64. differences: of the others. worst_logit: the largest error of a logit where plans are equal, as a share
    of the largest logit; None if there is no such input. budget: the most that it may be. tie: the largest margin that
    is a tie.
    """

    format: str
    runtime: str
    precision: str
    gated: bool
    batch: int
    inputs: int
    plans_equal: int
    differences: tuple[Difference, ...]
    worst_logit: float | None
    budget: float
    tie: float
    megabytes: float
    load_seconds: float
    ms_per_input: float

    @property
    def failures(self) -> list[str]:
        """What is wrong, a sentence each; empty if nothing is."""
        found = [
            f"{of.input}: block {of.block} is the first whose plan differs, by {of.margin:.1e}, which is no tie"
            for of in self.differences
            if not of.margin <= self.tie
        ]
        if self.worst_logit is None:
            found.append("no input has the plans of float64, so no logits could be compared")
        elif not self.worst_logit <= self.budget:
            found.append(
                f"logits differ from float64 by {self.worst_logit:.1e} of the largest, above {self.budget:.0e}"
            )
        return found

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failures


@dataclass(frozen=True)
class Parity:
    """The gate's report.

    frozen_ms: the frozen model in PyTorch, per input, batch 1. frozen_logit: its worst logit. refused: formats that
    were left out of all, and why.
    """

    model: str
    reduction: str
    rows: tuple[Row, ...]
    frozen_ms: float
    frozen_logit: float | None
    versions: dict[str, str]
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every gated row passed."""
        return all(row.passed for row in self.rows if row.gated)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; an infinite margin is null."""
        rows = []
        for row in self.rows:
            values = asdict(row)
            for difference in values["differences"]:
                if difference["margin"] == float("inf"):
                    difference["margin"] = None
            rows.append({**values, "passed": row.passed, "failures": row.failures})
        return {**asdict(self), "rows": rows, "passed": self.passed}


class ParityError(RmeetoError):
    """An exported model that does not compute what the model computes. ``parity`` says what was compared."""

    parity: Parity

    @classmethod
    def of(cls, parity: Parity, where: str) -> ParityError:
        """The error for a report that has not passed."""
        failures = [
            f"{row.runtime}, batch {row.batch}: {failure}"
            for row in parity.rows
            if row.gated and not row.passed
            for failure in row.failures
        ]
        more = "" if len(failures) <= 3 else f" (and {len(failures) - 3} more)"
        error = cls(
            f"export {parity.model}, {parity.reduction}",
            given=f"the files in {where}, which stay there",
            why="they do not compute what the model computes. " + "; ".join(failures[:3]) + more,
            fix="do not use them; parity.json lists all that was compared",
        )
        error.parity = parity
        return error


def joined(reports: Sequence[Parity], refused: dict[str, str]) -> Parity:
    """Several reports on one model as one. refused: formats that were left out, and why."""
    first = reports[0]
    return Parity(
        first.model,
        first.reduction,
        tuple(row for report in reports for row in report.rows),
        first.frozen_ms,
        first.frozen_logit,
        {name: version for report in reports for name, version in report.versions.items()},
        refused,
    )
