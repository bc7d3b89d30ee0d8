"""Judge a table's claims by the cells that are in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmeeto.analysis import (
    Better,
    Contrast,
    Counted,
    Finding,
    Monotone,
    Printed,
    Ratio,
    Unit,
    Untestable,
    Verdict,
    image_contrast,
    seed_contrast,
    verdicts,
)
from rmeeto.errors import ConfigError
from rmeeto.experiments.agreement import judge_nats
from rmeeto.experiments.claims import groups, named, names, word
from rmeeto.experiments.combined import every, judge_faster, judge_speedup, judge_speedups
from rmeeto.experiments.definition import COLUMN, Claim, Table
from rmeeto.experiments.plan import NONE, Place
from rmeeto.experiments.store import Result, Speed, Store

Values = NDArray[np.float64]
NOT_YET = "not run yet"


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict. waiting: cells that it still needs; then there is no verdict yet."""

    claim: Claim
    verdict: Verdict | None
    waiting: int = 0

    @property
    def word(self) -> str:
        """The verdict's word, or that there is none yet."""
        return NOT_YET if self.verdict is None else self.verdict.word

    @property
    def sentence(self) -> str:
        """What was found, or what is missing."""
        cells = "1 more cell" if self.waiting == 1 else f"{self.waiting} more cells"
        return f"It needs {cells}." if self.verdict is None else self.verdict.sentence


@dataclass(frozen=True)
class _Waiting:
    cells: int


def judge(table: Table, places: Sequence[Place], store: Store) -> list[Judged]:
    """Every claim of a table, in order. Claims that wait for cells take no part in the correction for the others."""
    judge_of = _Judge(table, places, store)
    findings = [judge_of.finding(claim) for claim in table.claims]
    given = iter(verdicts([finding for finding in findings if not isinstance(finding, _Waiting)]))
    return [
        Judged(claim, None, finding.cells) if isinstance(finding, _Waiting) else Judged(claim, next(given))
        for claim, finding in zip(table.claims, findings, strict=True)
    ]


class _Judge:
    def __init__(self, table: Table, places: Sequence[Place], store: Store) -> None:
        self.table, self.places, self.store = table, places, store

    def finding(self, claim: Claim) -> Finding | Counted | Untestable | _Waiting:
        """What the cells say of one claim."""
        statement = named(self.table, claim)
        found = list(groups(claim, self.places))
        testable = [group for group in found if all(place.missing is None for place in group)]
        if not testable:
            reasons = [place.missing for group in found for place in group if place.missing is not None]
            return Untestable(statement, _sentence(reasons[0]) if reasons else self._without_cells(claim))
        waiting = {
            cell.key for group in testable for place in group for cell in place.cells if self.store.find(cell) is None
        }
        if waiting:
            return _Waiting(len(waiting))
        by_name = dict(zip(names(self.table, claim, testable), testable, strict=True))
        if testable[0][0].column.measure == "predicted_minutes":
            return Untestable(statement, "The minutes are predicted from the paper's own first row.")
        if testable[0][0].column.measure == "images_per_second":
            return self._of_speeds(claim, by_name)
        if testable[0][0].column.measure == "nats":
            return self._of_nats(claim, by_name)
        return self._of_figures(claim, by_name)

    def _without_cells(self, claim: Claim) -> str:
        pictures = {column.key for column in self.table.columns if column.measure == "pictures"}
        judged_by_eye = claim.where.get(COLUMN) in pictures
        return "Pictures are looked at, not counted." if judged_by_eye else "The table has no such cells."

    def _of_nats(self, claim: Claim, by_name: Mapping[str, Sequence[Place]]) -> Finding:
        """Of mutual information: a difference counts only if all estimators agree on it."""
        statement = named(self.table, claim)
        if not isinstance(statement, Better):
            raise ConfigError(f"judge the claim {claim.text!r}", why="estimates can be compared, and nothing else")
        values = {
            name: _contrast(_alike([self._nats(place) for place in group]), "seed") for name, group in by_name.items()
        }
        return judge_nats(statement, values)

    def _nats(self, place: Place) -> Values:
        found = [self._result(place, number).nats for number in range(len(place.cells))]
        return np.array([one.of(place.column.key) for one in found if one is not None], dtype=np.float64)

    def _of_figures(self, claim: Claim, by_name: Mapping[str, list[Place]]) -> Finding | Counted:
        """Of accuracies or counted figures."""
        statement = named(self.table, claim)
        if isinstance(statement, Printed):
            return statement.judge(_printed(by_name))
        unit = _unit(by_name.values())
        values = {name: _alike([self._values(place, unit) for place in group]) for name, group in by_name.items()}
        if isinstance(statement, Monotone):
            ladders = {
                name: dict(zip((self._step(claim, place) for place in group), values[name], strict=True))
                for name, group in by_name.items()
            }
            return every({name: statement.judge(ladder, unit) for name, ladder in ladders.items()})
        if isinstance(statement, Ratio):
            raise ConfigError(f"judge the claim {claim.text!r}", why="a ratio is one of speeds")
        return statement.judge({name: _contrast(one, unit) for name, one in values.items()})

    def _of_speeds(self, claim: Claim, by_name: Mapping[str, list[Place]]) -> Finding | Counted:
        """Of speeds: a ratio to the unreduced model was measured in turns, a comparison of two models was not."""
        statement = named(self.table, claim)
        speeds = {name: [self._speed(place) for place in group] for name, group in by_name.items()}
        if isinstance(statement, Ratio):
            found = {}
            for name, (left, right) in speeds.items():
                unreduced = by_name[name][1].reduction == NONE
                found[name] = judge_speedup(statement, left) if unreduced else judge_speedups(statement, left, right)
            return every(found)
        if isinstance(statement, Better):
            return judge_faster(statement, speeds)
        raise ConfigError(f"judge the claim {claim.text!r}", why="speeds are compared by a ratio, or as faster")

    def _values(self, place: Place, unit: Unit) -> Values:
        """Per image, whether it is classified correctly; or per seed, the accuracy in per cent."""
        results = [self._result(place, number) for number in range(len(place.cells))]
        if unit == "image":
            (result,) = results
            return result.bits().astype(np.float64)
        return np.array([result.top1_percent for result in results], dtype=np.float64)

    def _step(self, claim: Claim, place: Place) -> str:
        assert claim.along is not None, "a monotone claim names a label"
        return word(self.table, claim.along, place.coordinates[claim.along])

    def _speed(self, place: Place) -> Speed:
        speed = self._result(place, 0).speed
        assert speed is not None, "a column of speeds has speed cells"
        return speed

    def _result(self, place: Place, number: int) -> Result:
        result = self.store.find(place.cells[number])
        assert result is not None, "claims that wait for cells are not judged"
        return result


def _unit(groups: Iterable[Sequence[Place]]) -> Unit:
    """By image if nothing is re-trained: the weights of each model are then the same ones in all of its cells."""
    as_they_are = all(cell.work == "free" for group in groups for place in group for cell in place.cells)
    return "image" if as_they_are else "seed"


def _alike(values: list[Values]) -> list[Values]:
    """One figure of a network that is not re-trained stands beside each re-training of another place."""
    most = max(map(len, values))
    return [np.repeat(one, most) if len(one) == 1 else one for one in values]


def _printed(by_name: Mapping[str, Sequence[Place]]) -> dict[str, tuple[float, str]]:
    """Each counted figure, and the printed one as text."""
    return {
        name: (place.counted, f"{place.row.printed[place.column.key]:.{place.column.digits}f}")
        for name, (place,) in by_name.items()
        if place.counted is not None
    }


def _contrast(values: Sequence[Values], unit: Unit) -> Contrast:
    """Left minus right; with a second pair, minus that pair's left minus right."""
    signs = (1.0, -1.0, -1.0, 1.0)
    contrast = sum(sign * one for sign, one in zip(signs, values, strict=False))
    largest = len(values) / 2
    return image_contrast(contrast, largest=largest) if unit == "image" else seed_contrast(contrast)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
