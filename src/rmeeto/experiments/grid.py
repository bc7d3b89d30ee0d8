"""A table as text in lines and columns, as the page and Markdown show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rmeeto.analysis.words import decimal
from rmeeto.experiments.definition import COUNTED, Column, Row
from rmeeto.experiments.summary import Figure, Summary

PAPER, OURS, DIFFERENCE = "paper", "ours", "difference"
ABSENT, DRAWN = "n/a", "drawn"


@dataclass(frozen=True)
class Group:
    """A column of the table. parts: what stands below its title: the paper's figure, ours, the difference."""

    title: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A row.

    labels: what tells it from the others. figures: one text for each part of each group. part: what all of them are, if
    the groups have other parts than the paper's figure, ours and the difference; else empty.
    """

    labels: tuple[str, ...]
    figures: tuple[str, ...]
    part: str = ""


@dataclass(frozen=True)
class Grid:
    """A table as text. notes: what its signs mean, and why figures are missing, one sentence each."""

    labels: tuple[str, ...]
    groups: tuple[Group, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    @property
    def width(self) -> int:
        """How many columns it has, labels included."""
        return len(self.labels) + sum(len(group.parts) for group in self.groups)


def grid(one: Summary) -> Grid:
    """The figures of a table as text: a part is left out of a column if it is empty in every row, or means nothing."""
    columns = [[line[number] for line in one.figures] for number in range(len(one.table.columns))]
    groups = tuple(
        Group(column.title, parts_of(figures, one.scale.base is None or column.measure in COUNTED))
        for column, figures in zip(one.table.columns, columns, strict=True)
    )
    names = one.table.labels()
    lines = tuple(
        Line(
            labels=tuple(label_text(row.coordinates.get(name, "")) for name in names),
            figures=tuple(
                "" if part == DIFFERENCE and calibrates(row, column) else text(figure, part, column.digits)
                for figure, column, group in zip(figures, one.table.columns, groups, strict=True)
                for part in group.parts
            ),
        )
        for row, figures in zip(one.table.rows, one.figures, strict=True)
    )
    notes = (*repetitions(one.figures), *calibration(one), *absences(one.table.columns, columns))
    return Grid(names, groups, lines, notes)


def parts_of(figures: Sequence[Figure], comparable: bool) -> tuple[str, ...]:
    """What is shown of a column: without printed figures ours alone, and the paper's alone if there are no others.

    comparable: whether ours minus the paper's means something; accuracies of networks that were trained here do not
    compare with those of the paper's.
    """
    printed = any(figure.printed is not None for figure in figures)
    if not printed:
        return (OURS,)
    if all(figure.missing for figure in figures):
        return (PAPER,)
    return (PAPER, OURS, DIFFERENCE) if comparable else (PAPER, OURS)


def calibrates(row: Row, column: Column) -> bool:
    """Whether our figure is the paper's by construction: one node's minutes fix the speed that others follow from."""
    return column.measure == "predicted_minutes" and row.coordinates.get("machines") == 1


def calibration(one: Summary) -> tuple[str, ...]:
    """What the figures without a difference are, if the table has some."""
    found = any(calibrates(row, column) for row in one.table.rows for column in one.table.columns)
    note = "Ours are predicted, from the paper’s figure on one machine; that one stands for itself."
    return (note,) if found else ()


def text(figure: Figure, part: str, digits: int) -> str:
    """One part of a figure, with the decimals that the paper prints."""
    if part == PAPER:
        return "—" if figure.printed is None else decimal(figure.printed, digits)
    if part == DIFFERENCE:
        return "" if figure.difference is None else with_sign(figure.difference, digits)
    if figure.ours is None:  # pictures, if nothing is missing and nothing waits
        return ABSENT if figure.missing else f"{figure.waiting} to run" if figure.waiting else DRAWN
    return decimal(figure.ours, digits) + ("" if figure.spread is None else f" ± {decimal(figure.spread, digits)}")


def with_sign(value: float, digits: int) -> str:
    """A difference with its sign, also if it rounds to 0."""
    shown = decimal(value, digits)
    return shown if shown.startswith("−") else f"+{shown}"


def label_text(value: str | int | float) -> str:
    """A label as a cell of the table."""
    return value if isinstance(value, str) else f"{value:g}"


def repetitions(lines: Sequence[Sequence[Figure]]) -> tuple[str, ...]:
    """What ± means, if the table has it."""
    numbers = sorted({figure.n for line in lines for figure in line if figure.spread is not None})
    many = " or ".join(f"{number}" for number in numbers)
    return (f"± is the standard deviation over {many} repetitions with other seeds.",) if numbers else ()


def absences(columns: Sequence[Column], figures: Sequence[Sequence[Figure]]) -> tuple[str, ...]:
    """Why figures of ours are missing: one sentence for columns with the same reasons."""
    about: dict[tuple[str, ...], list[str]] = {}
    for column, ours in zip(columns, figures, strict=True):
        if reasons := tuple(dict.fromkeys(figure.missing for figure in ours if figure.missing)):
            about.setdefault(reasons, []).append(column.title)
    return tuple(f"No figures of ours ({', '.join(titles)}): {'; '.join(why)}." for why, titles in about.items())
