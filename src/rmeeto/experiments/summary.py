"""A table as it stands: our figures beside the printed ones, what is still to be run, and the verdicts so far."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rmeeto.experiments.definition import Column, Table
from rmeeto.experiments.judge import Judged, judge
from rmeeto.experiments.plan import Place, places
from rmeeto.experiments.scale import Scale
from rmeeto.experiments.store import Result, Store


@dataclass(frozen=True)
class Figure:
    """One place of a table.

    ours: the mean over the repetitions; None until all of them are there, and for pictures, which are no figure.
    spread: their standard deviation. n: how many. printed: the paper's figure. waiting: repetitions still to be run.
    missing: why there is nothing to run. keys: of its cells, one per repetition.
    """

    reduction: str
    ours: float | None
    spread: float | None
    n: int
    printed: float | None
    waiting: int
    missing: str | None
    keys: tuple[str, ...] = ()

    @property
    def difference(self) -> float | None:
        """Ours minus printed."""
        return None if self.ours is None or self.printed is None else self.ours - self.printed


@dataclass(frozen=True)
class Summary:
    """A table at a scale.

    figures: one list per row, one figure per column. cells, done: distinct cells. seconds_left: expected for the cells
    that are not done; 0 if the scale does not say how long they take.
    """

    table: Table
    scale: Scale
    figures: tuple[tuple[Figure, ...], ...]
    judged: tuple[Judged, ...]
    cells: int
    done: int
    seconds_left: float

    @property
    def complete(self) -> bool:
        """Whether every cell has been run."""
        return self.done == self.cells

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        table = self.table
        return {
            "table": table.name,
            "title": table.title,
            "place": table.place,
            "scale": self.scale.name,
            "cells": self.cells,
            "done": self.done,
            "seconds_left": self.seconds_left,
            "rows": [
                {
                    **row.coordinates,
                    "columns": {
                        column.key: {**asdict(figure), "difference": figure.difference}
                        for column, figure in zip(table.columns, figures, strict=True)
                    },
                }
                for row, figures in zip(table.rows, self.figures, strict=True)
            ],
            "claims": [
                {
                    "text": one.claim.text,
                    "waiting": one.waiting,
                    "verdict": None if one.verdict is None else one.verdict.to_dict(),
                }
                for one in self.judged
            ],
        }


def summary(
    table: Table, scale: Scale, data: Mapping[str, str | None], store: Store, seeds: int | None = None
) -> Summary:
    """How far a table is at a scale. data, seeds: as :func:`rmeeto.experiments.plan.places` takes them."""
    found = list(places(table, scale, data, seeds))
    figures = [figure_of(place, store) for place in found]
    columns = len(table.columns)
    cells = {cell.key: (cell, place.seconds) for place in found for cell in place.cells}
    left = [seconds for cell, seconds in cells.values() if store.find(cell) is None]
    return Summary(
        table=table,
        scale=scale,
        figures=tuple(tuple(figures[start : start + columns]) for start in range(0, len(figures), columns)),
        judged=tuple(judge(table, found, store)),
        cells=len(cells),
        done=len(cells) - len(left),
        seconds_left=sum(left),
    )


def figure_of(place: Place, store: Store) -> Figure:
    """What stands in one place."""
    results = [store.find(cell) for cell in place.cells]
    waiting = results.count(None)
    values = [value_of(result, place.column) for result in results if result is not None]
    there = [value for value in values if value is not None]
    ours = place.counted if waiting or not there else statistics.mean(there)
    return Figure(
        reduction=place.reduction,
        ours=ours,
        spread=statistics.stdev(there) if len(there) > 1 and not waiting else None,
        n=len(values),
        printed=place.row.printed.get(place.column.key),
        waiting=waiting,
        missing=place.missing,
        keys=tuple(cell.key for cell in place.cells),
    )


def value_of(result: Result, column: Column) -> float | None:
    """A cell's figure: accuracy in per cent, images per second, minutes of re-training and scoring, or nats.

    None for pictures.
    """
    if column.measure == "minutes":
        return result.seconds / 60
    if result.pictures is not None:
        return None
    if result.nats is not None:
        return result.nats.of(column.key)
    if result.speed is not None:
        return statistics.median(result.speed.images_per_second)
    assert result.top1_percent is not None, "a cell of any other work has an accuracy"
    return result.top1_percent


def overall(summaries: Sequence[Summary]) -> dict[str, int]:
    """How many claims have which verdict; those without one count as ``not run yet``."""
    words = [one.word for whole in summaries for one in whole.judged]
    return {word: words.count(word) for word in dict.fromkeys(words)}


def undecidable(summaries: Sequence[Summary]) -> int:
    """How many claims are undecided because so few repetitions could not decide them, whatever came out."""
    verdicts = [one.verdict for whole in summaries for one in whole.judged]
    return sum(verdict is not None and not verdict.decidable for verdict in verdicts)
