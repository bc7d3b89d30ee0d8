"""Tables as CSV for programs, with every decimal, and as Markdown for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from rmeeto.experiments.grid import Grid, grid
from rmeeto.experiments.judge import Judged
from rmeeto.experiments.summary import Summary

COLUMNS = (
    "column",
    "measure",
    "reduction_line",
    "printed",
    "ours",
    "spread",
    "repetitions",
    "difference",
    "waiting",
    "missing",
    "cells",
)


def to_csv(tables: Sequence[Summary]) -> str:
    """One line for each figure of the tables.

    First the table's name, then the labels of all tables (empty where a table does not have one), then the column and
    its measure, the reduction at this scale, the paper's figure, ours, its standard deviation over the repetitions and
    their number, ours minus the paper's, repetitions still to be run, why there is nothing to run, and the keys of the
    cells. Numbers have all their digits.
    """
    labels = list(dict.fromkeys(name for one in tables for name in one.table.labels()))
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(["table", *labels, *COLUMNS])
    for one in tables:
        for row, figures in zip(one.table.rows, one.figures, strict=True):
            for column, figure in zip(one.table.columns, figures, strict=True):
                own = [row.coordinates.get(name, "") for name in labels]
                values = (figure.reduction, figure.printed, figure.ours, figure.spread, figure.n, figure.difference)
                rest = (figure.waiting, figure.missing, " ".join(figure.keys))
                lines.writerow([one.table.name, *own, column.key, column.measure, *values, *rest])
    return written.getvalue()


def to_markdown(tables: Sequence[Summary]) -> str:
    """The tables with their claims and verdicts, one after the other."""
    return "\n".join(_one(table) for table in tables)


def _one(one: Summary) -> str:
    shown = grid(one)
    parts = [f"## {one.table.place}: {one.table.title}", f"{one.done} of {one.cells} cells have been run."]
    parts += [one.table.small, "\n".join(_table(shown)), "\n\n".join(shown.notes)]
    parts.append("\n".join(f"- {_claim(judged)}" for judged in one.judged))
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(shown: Grid) -> Iterable[str]:
    heads = [*shown.labels, *(f"{group.title}: {part}" for group in shown.groups for part in group.parts)]
    sides = ["---"] * len(shown.labels) + ["---:"] * (len(heads) - len(shown.labels))
    for cells in (heads, sides, *([*line.labels, *line.figures] for line in shown.lines)):
        yield f"| {' | '.join(_cell(text) for text in cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _claim(judged: Judged) -> str:
    return f"**{judged.word}**: {judged.claim.text} {judged.sentence}"
