"""What a table's charts show: figures in order, by the numeric label and by what else tells the rows apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rmeeto.experiments.definition import Row
from rmeeto.experiments.grid import label_text
from rmeeto.experiments.summary import Figure, Summary

FEWEST_STEPS = 3  # two points are read faster in the table

Read = Callable[[Figure], float | None]


@dataclass(frozen=True)
class Point:
    """One figure. x: the value of the numeric label; None if the table has none. spread: None if it has none."""

    x: float | None
    y: float
    spread: float | None


@dataclass(frozen=True)
class Series:
    """Figures of one column whose rows differ in the numeric label alone. name: what tells them from the others."""

    name: str
    points: tuple[Point, ...]


def ours(figure: Figure) -> float | None:
    """Our figure."""
    return figure.ours


def printed(figure: Figure) -> float | None:
    """The paper's figure."""
    return figure.printed


def numeric_label(one: Summary) -> str | None:
    """The label with the most numeric values, of those with at least three; None if there is no such label."""
    steps = {
        name: {row.coordinates[name] for row in one.table.rows if name in row.coordinates}
        for name in one.table.labels()
    }
    numeric = [
        name
        for name, values in steps.items()
        if len(values) >= FEWEST_STEPS and all(isinstance(value, int | float) for value in values)
    ]
    return max(numeric, key=lambda name: len(steps[name]), default=None)


def series(one: Summary, number: int, read: Read, along: str | None) -> list[Series]:
    """The series of one column, in the order of the rows.

    number: of the column. read: :func:`ours` or :func:`printed`. along: the numeric label; without one, each row is a
    series of one point.
    """
    telling = differing_labels(one, along)
    found: dict[str, list[Point]] = {}
    for row, figures in zip(one.table.rows, one.figures, strict=True):
        figure = figures[number]
        value, x = read(figure), None if along is None else row.coordinates.get(along)
        if value is None or (along is not None and x is None):
            continue
        name = row_name(row, telling)
        spread = figure.spread if read is ours else None
        found.setdefault(name, []).append(Point(None if x is None else float(x), value, spread))
    return [Series(name, tuple(points)) for name, points in found.items()]


def differing_labels(one: Summary, along: str | None) -> Sequence[str]:
    """Labels that tell rows apart, without the one that the series run along."""
    rows = [row.coordinates for row in one.table.rows]
    return [name for name in one.table.labels() if name != along and len({str(row.get(name)) for row in rows}) > 1]


def row_name(row: Row, telling: Sequence[str]) -> str:
    """A row's values of some labels, as a chart names it."""
    return ", ".join(named(label, row.coordinates[label]) for label in telling if label in row.coordinates)


def named(label: str, value: str | int | float) -> str:
    """A label's value; a number with the label's name before it."""
    return value if isinstance(value, str) else f"{label} {label_text(value)}"
