"""What the estimators of mutual information give where it is known, beside a table's own figures."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from rmeeto.analysis.words import decimal
from rmeeto.experiments.nats import Nats
from rmeeto.experiments.store import Store
from rmeeto.experiments.summary import Summary

DIGITS = 2


@dataclass(frozen=True)
class Calibration:
    """A small table: figures of Gaussians of known mutual information, by estimator. note: what they are."""

    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    note: str


def calibrations(one: Summary, store: Store) -> list[Calibration]:
    """One for each number of columns and of samples among a table's cells of nats."""
    found: dict[tuple[int, int], dict[tuple[float, ...], Nats]] = {}
    for key in (key for line in one.figures for figure in line for key in figure.keys):
        result = store.of_key(key)
        if result is not None and result.nats is not None:
            own = result.nats
            # cells of one seed have the same Gaussians
            same = tuple(value for values in own.gaussians.values() for value in values)
            found.setdefault((own.columns, own.samples), {})[same] = own
    return [_table(list(cells.values()), columns, samples) for (columns, samples), cells in sorted(found.items())]


def _table(cells: list[Nats], columns: int, samples: int) -> Calibration:
    truths, names = cells[0].truths, tuple(cells[0].gaussians)
    lines = tuple(
        (f"{truth:g}", *(_mean([cell.gaussians[name][number] for cell in cells]) for name in names))
        for number, truth in enumerate(truths)
    )
    spread = f", mean ± standard deviation of {len(cells)} draws" if len(cells) > 1 else ""
    note = (
        f"What the estimators give for Gaussians whose mutual information is known (nats{spread}): {samples:,} samples "
        f"of {columns} columns, as many as each figure above is made from."
    )
    return Calibration(("known", *names), lines, note)


def _mean(values: list[float]) -> str:
    spread = f" ± {decimal(statistics.stdev(values), DIGITS)}" if len(values) > 1 else ""
    return decimal(statistics.fmean(values), DIGITS) + spread
