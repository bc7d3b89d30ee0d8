"""The table of a run: accuracy, cost and speed of the unreduced, the reduced and the re-trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rmeeto.data.media import IMAGES, Kind
from rmeeto.evaluation.results import Results, Row
from rmeeto.report.words import operations
from rmeeto.speed import BenchReport, Measurement

STYLES = {"unreduced": "whole", "before training": "free", "reduced": "free"}


@dataclass(frozen=True)
class Line:
    """A row as text. style: its colour on the page, ``whole``, ``free`` (of training) or ``trained``."""

    name: str
    style: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Column headings, the first of them empty, and lines. note: what the columns mean."""

    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    note: str


def timed(results: Results, reduction: str, speed: BenchReport) -> Results:
    """The results with a benchmark's speeds in place of those measured during evaluation.

    reduction: the run's, as its line. The benchmark's largest batch is used.
    """
    measured = {m.reduction: m for m in largest_setting(speed)}
    chosen = [measured["none" if row.reduction_ratio == 0 else reduction] for row in results.rows]
    rows = (
        replace(row, images_per_second=m.images_per_second.median, speedup=m.speedup.median)
        for row, m in zip(results.rows, chosen, strict=True)
    )
    return replace(results, rows=tuple(rows))


def largest_setting(speed: BenchReport) -> tuple[Measurement, ...]:
    """The measurements at the largest batch, where kernels rather than calls take the time."""
    return max(speed.settings(), key=lambda setting: setting[0].batch)


def table(rows: Sequence[Row], speed: BenchReport | None, kind: Kind = IMAGES) -> Table:
    """Lay out the rows. speed: the benchmark that timed them, if one did. kind: of what the model takes."""
    top5 = any(row.top5_percent is not None for row in rows)
    columns = [
        "",
        "top-1 %",
        *(["top-5 %"] if top5 else []),
        "loss",
        "FLOPs, exact",
        "FLOPs, paper’s count",
        "tokens at the end",
        f"{kind.many}/s",
        "speed-up, measured",
        "speed-up, by FLOPs",
    ]
    lines = (Line(row.name, STYLES.get(row.name, "trained"), cells(row, rows[0], top5=top5)) for row in rows)
    return Table(tuple(columns), tuple(lines), note(rows, speed, kind))


def cells(row: Row, first: Row, *, top5: bool) -> tuple[str, ...]:
    """One row's figures. first: the row that speed-ups are relative to."""
    return (
        f"{row.top1_percent:.1f}",
        *(["" if row.top5_percent is None else f"{row.top5_percent:.1f}"] if top5 else []),
        f"{row.loss:.3f}",
        operations(row.gflops_exact),
        operations(row.gflops_paper),
        f"{row.tokens}",
        f"{row.images_per_second:,.0f}",
        f"{row.speedup:.2f}×",
        f"{first.gflops_exact / row.gflops_exact:.2f}×",
    )


def note(rows: Sequence[Row], speed: BenchReport | None, kind: Kind) -> str:
    """What the columns mean and how the speeds were measured."""
    meaning = (
        f"On {rows[-1].images:,} {kind.many} that were not trained on. "
        "Exact FLOPs count both scan directions; the paper’s counter counts one. "
    )
    if speed is None:
        return meaning + "Speeds are those of the evaluation, one model after the other."
    setting = largest_setting(speed)
    spread = setting[-1].speedup
    return meaning + (
        f"Speeds are medians of at least {speed.rounds} rounds in which the models take turns, "
        f"batch {setting[0].batch}, {speed.impl} kernels; "
        f"half of the rounds lie between {spread.lower:.2f}× and {spread.upper:.2f}×."
    )
