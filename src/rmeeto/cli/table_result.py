"""A table of the paper in the terminal: our figures beside the printed ones, then the verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from rich.markup import escape
from rich.table import Column
from rich.table import Table as RichTable

from rmeeto.cli import console
from rmeeto.experiments.grid import Grid, Group, grid
from rmeeto.experiments.summary import Summary

COLOURS = {"holds": "green", "does not hold": "red", "undecided": "yellow", "not testable here": "dim"}
GAP = 2  # columns of the terminal between two columns of the table


def print_summary(one: Summary) -> None:
    """The figures, in several pieces if the terminal is too narrow for all columns; then the verdicts."""
    whole, found = one.table, grid(one)
    title: str | None = f"{whole.place}: {whole.title} ({one.scale.name} scale, {one.done} of {one.cells} cells)"
    for groups in pieces(found, console.out().width):
        console.out().print(piece(found, groups, title), "")
        title = None
    for note in found.notes:
        console.out().print(f"[dim]{escape(note)}[/]")
    for judged in one.judged:
        colour = COLOURS.get(judged.word, "dim")
        text, sentence = escape(judged.claim.text), escape(judged.sentence)
        console.out().print(f"[bold {colour}]{judged.word}[/]  {text}\n  [dim]{sentence}[/]")


def pieces(whole: Grid, width: int) -> Iterator[list[int]]:
    """The groups of columns that fit beside the labels, by number; one that fits nowhere stands alone."""
    labels = sum(GAP + max(map(len, column)) for column in label_columns(whole))
    together: list[int] = []
    used = labels
    for number in range(len(whole.groups)):
        needed = sum(GAP + len(heading[0]) for heading in headings(whole, number))
        if together and used + needed > width:
            yield together
            together, used = [], labels
        together.append(number)
        used += needed
    if together:
        yield together


def piece(whole: Grid, groups: Sequence[int], title: str | None) -> RichTable:
    """Some of the groups of columns beside the labels."""
    heads = [heading for number in groups for heading in headings(whole, number)]
    height = max(map(len, heads))
    shown = console.table(
        *(Column("\n" * (height - 1) + name, overflow="fold") for name in whole.labels),
        *(console.number("\n".join([""] * (height - len(head)) + [line.strip() for line in head])) for head in heads),
        title=title,
    )
    for line in whole.lines:
        figures = [line.figures[place] for number in groups for place in places(whole.groups, number)]
        shown.add_row(*map(escape, line.labels), *map(escape, figures))
    return shown


def headings(whole: Grid, number: int) -> list[list[str]]:
    """What stands above each part of a group of columns: lines of equal length, the width of the column."""
    group, found = whole.groups[number], []
    for part, place in zip(group.parts, places(whole.groups, number), strict=True):
        cells = max((len(line.figures[place]) for line in whole.lines), default=0)
        title = group.title if part == group.parts[0] else ""
        width = max(cells, len(part), *map(len, title.split() or [""]))
        found.append([line.rjust(width) for line in (*wrap(title, width), part)])
    return found


def places(groups: Sequence[Group], number: int) -> range:
    """Where the figures of a group stand in a line."""
    start = sum(len(group.parts) for group in groups[:number])
    return range(start, start + len(groups[number].parts))


def label_columns(whole: Grid) -> list[tuple[str, ...]]:
    """The words of each column of labels, its heading first."""
    return [(name, *(line.labels[place] for line in whole.lines)) for place, name in enumerate(whole.labels)]
