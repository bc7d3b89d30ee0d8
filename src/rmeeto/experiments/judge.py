"""Judge a table's claims by the cells that are in the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmeeto.analysis import (
    Better,
    Contrast,
    Counted,
    Equal,
    Finding,
    Monotone,
    Printed,
    Ratio,
    Statement,
    Unit,
    Untestable,
    Verdict,
    image_contrast,
    seed_contrast,
    verdicts,
)
from rmeeto.experiments.definition import COLUMN, Claim, Coordinates, Table, Value
from rmeeto.experiments.plan import Place
from rmeeto.experiments.store import Result, Store

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict. waiting: cells that it still needs; then there is no verdict yet."""

    claim: Claim
    verdict: Verdict | None
    waiting: int = 0


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
        self.by_coordinates = {_frozen(place.coordinates): place for place in places}

    def finding(self, claim: Claim) -> Finding | Counted | Untestable | _Waiting:
        """What the cells say of one claim."""
        groups = list(self._groups(claim))
        testable = [group for group in groups if all(place.missing is None for place in group)]
        if not testable:
            reasons = [place.missing for group in groups for place in group if place.missing is not None]
            return Untestable(_named(claim), _sentence(reasons[0]) if reasons else "The table has no such cells.")
        waiting = {
            cell.key for group in testable for place in group for cell in place.cells if self.store.find(cell) is None
        }
        return _Waiting(len(waiting)) if waiting else self._judged(claim, testable)

    def _groups(self, claim: Claim) -> Iterator[list[Place]]:
        """The places that belong together: the sides of a pair, the steps of a ladder, or one place by itself."""
        chosen = [place for place in self.places if _matches(place.coordinates, {**claim.where, **claim.left})]
        if claim.along is not None:
            rest = {id(p): _frozen({k: v for k, v in p.coordinates.items() if k != claim.along}) for p in chosen}
            for key in dict.fromkeys(rest.values()):
                yield [place for place in chosen if rest[id(place)] == key]
            return
        for place in chosen:
            if claim.kind == "printed":
                if self.table_prints(place):
                    yield [place]
                continue
            sides = [place.coordinates, {**place.coordinates, **claim.right}]
            if claim.against:
                sides += [{**side, **claim.against} for side in sides]
            group = [self.by_coordinates.get(_frozen(side)) for side in sides]
            if None not in group:
                yield [one for one in group if one is not None]

    @staticmethod
    def table_prints(place: Place) -> bool:
        """Whether the paper prints a figure there."""
        return place.column.key in place.row.printed

    def _judged(self, claim: Claim, groups: list[list[Place]]) -> Finding | Counted:
        names = self._names(claim, groups)
        named = _named(claim)
        if isinstance(named, Printed):
            digits = [f"{group[0].row.printed[group[0].column.key]:.{group[0].column.digits}f}" for group in groups]
            counted = [group[0].counted for group in groups]
            return named.judge({n: (c, d) for n, c, d in zip(names, counted, digits, strict=True) if c is not None})
        if isinstance(named, Ratio):
            speedups = [[self._speedups(place) for place in group] for group in groups]
            rounds = min(len(one) for pair in speedups for one in pair)
            found = [named.judge(left[:rounds], right[:rounds]) for left, right in speedups]
            return _every(dict(zip(names, found, strict=True)))
        unit: Unit = "image" if all(c.work == "free" for g in groups for p in g for c in p.cells) else "seed"
        if isinstance(named, Monotone):
            ladders = [{self._step(claim, place): self._values(place, unit) for place in group} for group in groups]
            return _every({name: named.judge(ladder, unit) for name, ladder in zip(names, ladders, strict=True)})
        pairs = {
            name: _contrast([self._values(place, unit) for place in group], unit)
            for name, group in zip(names, groups, strict=True)
        }
        return named.judge(pairs)

    def _values(self, place: Place, unit: Unit) -> Values:
        """Per image, the share of the seeds that classify it correctly; or per seed, the accuracy in per cent."""
        results = [self._result(place, number) for number in range(len(place.cells))]
        if unit == "image":
            shares: Values = np.stack([result.bits() for result in results]).mean(axis=0, dtype=np.float64)
            return shares
        return np.array([result.top1_percent for result in results], dtype=np.float64)

    def _step(self, claim: Claim, place: Place) -> str:
        assert claim.along is not None, "a monotone claim names a label"
        return _word(self.table, claim.along, place.coordinates[claim.along])

    def _speedups(self, place: Place) -> list[float]:
        """Over the unreduced model, round by round: each pair of figures was measured in turns."""
        speed = self._result(place, 0).speed
        assert speed is not None, "a column of speeds has speed cells"
        return [own / whole for own, whole in zip(speed.images_per_second, speed.unreduced, strict=True)]

    def _result(self, place: Place, number: int) -> Result:
        result = self.store.find(place.cells[number])
        assert result is not None, "claims that wait for cells are not judged"
        return result

    def _names(self, claim: Claim, groups: list[list[Place]]) -> list[str]:
        """What tells the groups from each other, in words."""
        fixed = {*claim.left, claim.along}
        own = [{name: value for name, value in group[0].coordinates.items() if name not in fixed} for group in groups]
        differing = [name for name in own[0] if len({str(one.get(name)) for one in own}) > 1]
        names = [", ".join(_word(self.table, name, one[name]) for name in differing if name in one) for one in own]
        return names if len(set(names)) == len(names) and all(names) else [f"pair {n + 1}" for n in range(len(names))]


def _named(claim: Claim) -> Better | Equal | Monotone | Ratio | Printed:
    """The claim as the statistics know it."""
    left, right = (_side(side) for side in (claim.left, claim.right))
    if claim.kind == "better":
        if claim.against:
            against, first = _side(claim.against), {name: claim.where.get(name) for name in claim.against}
            difference = f"what {left} gains over {right}"
            return Better(
                claim.text, f"{difference} ({_side(first)})", f"that of {against}", claim.margin, "more", "less"
            )
        return Better(claim.text, left, right, claim.margin)
    if claim.kind == "equal":
        return Equal(claim.text, left, right, claim.margin)
    if claim.kind == "monotone":
        return Monotone(claim.text, "rises" if claim.rises else "falls", claim.margin)
    if claim.kind == "ratio":
        assert claim.value is not None, "checked when the table was read"
        return Ratio(claim.text, claim.value, claim.margin)
    return Printed(claim.text)


def _side(side: Mapping[str, Any]) -> str:
    return ", ".join(str(value) for value in side.values())


def _contrast(values: Sequence[Values], unit: Unit) -> Contrast:
    """Left minus right; with a second pair, minus that pair's left minus right."""
    signs = (1.0, -1.0, -1.0, 1.0)
    contrast = sum(sign * one for sign, one in zip(signs, values, strict=False))
    largest = len(values) / 2
    return image_contrast(contrast, largest=largest) if unit == "image" else seed_contrast(contrast)


def _every(findings: Mapping[str, Finding]) -> Finding:
    """One finding that holds if each of several does, and fails if one surely does (Bonferroni)."""
    closest = max(findings, key=lambda name: findings[name].p_holds)
    worst = min(findings, key=lambda name: findings[name].p_fails)
    if len(findings) == 1:
        return findings[closest]
    return Finding(
        findings[closest].claim,
        p_holds=findings[closest].p_holds,
        p_fails=min(1.0, len(findings) * findings[worst].p_fails),
        can_hold=all(finding.can_hold for finding in findings.values()),
        can_fail=any(finding.can_fail for finding in findings.values()),
        holds=_of(findings[closest].holds, f"in all {len(findings)} of {', '.join(findings)}; in {closest}, "),
        fails=_of(findings[worst].fails, f"in {worst}, "),
        undecided=_of(findings[closest].undecided, f"in {closest}, "),
        figures={f"{name}: {part}": figure for name, one in findings.items() for part, figure in one.figures.items()},
    )


def _of(statement: Statement, where: str) -> Statement:
    return replace(statement, found=where + statement.found)


def _matches(coordinates: Coordinates, wanted: Mapping[str, Value | list[Value]]) -> bool:
    """Whether a place has all the wanted coordinates; a list allows any of its values."""
    return all(
        name in coordinates and coordinates[name] in (value if isinstance(value, list) else [value])
        for name, value in wanted.items()
    )


def _frozen(coordinates: Coordinates) -> frozenset[tuple[str, Value]]:
    return frozenset(coordinates.items())


def _word(table: Table, name: str, value: Value) -> str:
    """A coordinate as a sentence names it: a column by its heading, a model by its name, a label with its name."""
    if name == COLUMN:
        return next((column.title for column in table.columns if column.key == value), str(value))
    return str(value) if isinstance(value, str) else f"{name} {value:g}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
