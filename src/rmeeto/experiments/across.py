"""A table with one of its labels laid across the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rmeeto.experiments.grid import Grid, Group, Line, grid
from rmeeto.experiments.summary import Summary

COLUMN, WHOSE = "column", "whose"


def laid_out(one: Summary) -> Grid:
    """The table as the page shows it: with the label that it names ``across`` as columns, else as it is.

    A line has one part of one column, for the rows that differ in that label alone.
    """
    whole = grid(one)
    if one.table.across is None or not all(one.table.across in row.coordinates for row in one.table.rows):
        return whole
    place = whole.labels.index(one.table.across)
    steps = tuple(dict.fromkeys(line.labels[place] for line in whole.lines))
    rows: dict[tuple[str, ...], dict[str, Line]] = {}
    for line in whole.lines:
        rows.setdefault(without(line.labels, place), {})[line.labels[place]] = line
    # a table of one column, or of one part, does not say which
    said = [len(whole.groups) > 1, any(len(group.parts) > 1 for group in whole.groups)]
    heads = [head for head, shown in zip((COLUMN, WHOSE), said, strict=True) if shown]
    lines = [
        Line((*rest, *(text for text, shown in zip((title, part), said, strict=True) if shown)), figures, part)
        for rest, by_step in rows.items()
        for title, part, figures in parts(whole, steps, by_step)
    ]
    group = Group(one.table.across, steps)
    return Grid((*without(whole.labels, place), *heads), (group,), tuple(lines), whole.notes)


def parts(
    whole: Grid, steps: tuple[str, ...], by_step: Mapping[str, Line]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Title, part and figures of each line that rows become; none for a part that has nothing at any step."""
    columns = [(group.title, part) for group in whole.groups for part in group.parts]
    for number, (title, part) in enumerate(columns):
        figures = tuple(by_step[step].figures[number] if step in by_step else "" for step in steps)
        if any(figures):
            yield title, part, figures


def without(labels: tuple[str, ...], place: int) -> tuple[str, ...]:
    """The labels but for one."""
    return labels[:place] + labels[place + 1 :]
