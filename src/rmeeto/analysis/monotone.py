"""Claims about an ordered list of cells: accuracy falls, or rises, from the first to the last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmeeto.analysis.comparison import Comparison, compare, two_sided
from rmeeto.analysis.contrast import Contrast, Unit, correctness, image_contrast, percent, seed_contrast
from rmeeto.analysis.finding import Finding, Statement, Undecided
from rmeeto.analysis.mean import LEVEL
from rmeeto.analysis.words import above_margin, corrected_away, facts, neither, obstacle, points
from rmeeto.checks import number
from rmeeto.errors import ConfigError, UnknownName

FALL = " of the change"  # what an interval is of where the sentence has the size of a fall, without its sign


@dataclass(frozen=True)
class Monotone:
    """Accuracy falls (or rises) along an ordered list of cells that share images or seeds.

    For each image or seed a straight line is fitted over the cells, taken as equally far apart; its change from the
    first to the last cell is the trend. The claim holds if the trend is above the margin and no step between neighbours
    goes surely the other way. That says "falls, and no rise was seen", not "falls at every step": the latter would need
    each step to be significant, which no fine ladder could reach. It does not hold if a step goes surely the other way,
    or the trend is surely below the margin (the smallest p-value, times the number of steps and one).

    margin: of the trend, in points, at least 0.

    Raises:
        ConfigError: a negative margin.
        UnknownName: another direction.
    """

    kind: ClassVar[str] = "monotone"

    text: str
    direction: Literal["falls", "rises"]
    margin: float = 0.0

    def __post_init__(self) -> None:
        number(f"claim {self.text!r}", "margin", self.margin, least=0)
        if self.direction not in ("falls", "rises"):
            raise UnknownName("direction", self.direction, ["falls", "rises"])

    def judge(self, cells: Mapping[str, ArrayLike], unit: Unit) -> Finding:
        """What the cells say, in their order. The figures are changes of accuracy: negative where it falls.

        cells: by name, the correctness of the same images, or the accuracies in per cent from the same seeds.

        Raises:
            ConfigError: fewer than two cells, cells of several lengths, or other numbers.
            UnknownName: another unit.
        """
        table = self._table(cells, unit) * (1.0 if self.direction == "rises" else -1.0)
        names = list(cells)
        whole = f"{names[0]} to {names[-1]}"
        line = "the line fitted to the accuracies" if len(names) > 2 else "accuracy"
        trend = compare(_trend(table, unit), self.margin)
        steps = {
            f"{first} to {second}": compare(_contrast(difference, unit, 1.0))
            for first, second, difference in zip(names[:-1], names[1:], np.diff(table, axis=0), strict=True)
        }
        worst = min(steps, key=lambda name: steps[name].p_below)
        opposed = two_sided(len(steps) * steps[worst].p_below) <= LEVEL
        tests = len(steps) + 1
        if opposed:
            undecided = self._opposed(trend, line, whole, steps[worst], worst, tests)
        else:
            undecided = self._undecided(trend, line, whole, tests)
        step_is_worst = steps[worst].p_below < trend.p_below
        fails = self._moves(steps[worst], "accuracy", worst) if step_is_worst else self._too_little(trend, line, whole)
        figures = {f"{whole}, fitted": trend} | steps
        return Finding(
            self,
            p_holds=1.0 if opposed else two_sided(trend.p_above),
            p_fails=two_sided(tests * min(steps[worst].p_below, trend.p_below)),
            can_hold=trend.decidable,
            can_fail=trend.decidable,
            holds=self._holds(trend, line, whole),
            fails=fails,
            undecided=undecided,
            figures={name: self._change(one) for name, one in figures.items()},
            clearance=-math.inf if opposed else trend.clearance,
        )

    def _table(self, cells: Mapping[str, ArrayLike], unit: Unit) -> NDArray[np.float64]:
        """Cells × images or seeds."""
        if unit not in ("image", "seed"):
            raise UnknownName("unit", unit, ["image", "seed"])
        asked, read = f"judge the claim {self.text!r}", correctness if unit == "image" else percent
        rows = [read(asked, name, values) for name, values in cells.items()]
        if len(rows) < 2 or len({len(row) for row in rows}) > 1:
            raise ConfigError(
                asked,
                given=", ".join(f"{name}: {len(row)}" for name, row in zip(cells, rows, strict=True)) or "no cells",
                why="it takes two cells or more, each with one number from every image or seed",
            )
        return np.stack(rows)

    def _holds(self, trend: Comparison, line: str, whole: str) -> Statement:
        said = self._moves(trend, line, whole)
        return replace(said, found=f"{said.found}{above_margin(self.margin)}, and no step goes surely the other way")

    def _moves(self, pair: Comparison, subject: str, where: str) -> Statement:
        """That something falls or rises, with the interval of its change."""
        change = self._change(pair)
        if change.difference < 0:
            return Statement(f"{subject} falls by {points(change.mirrored())} from {where}", facts(change, FALL))
        return Statement(f"{subject} rises by {points(change)} from {where}", facts(change))

    def _too_little(self, trend: Comparison, line: str, whole: str) -> Statement:
        if not self.margin:
            return self._moves(trend, line, whole)
        found = f"{self._is(trend, line, whole)}, less than the margin of {self.margin:g}"
        return Statement(found, facts(self._change(trend)))

    def _undecided(self, trend: Comparison, line: str, whole: str, tests: int) -> Undecided:
        found, shown = self._is(trend, line, whole), facts(self._change(trend))
        if trend.leaning is None:
            return Undecided(found, shown, trend.tested, None, neither(trend))
        towards = trend.leaning == "towards"
        margin = f", {'more' if towards else 'less'} than the margin of {self.margin:g}" if self.margin else ""
        why = obstacle(trend, trend.leaning, 1 if towards else tests, "test")
        return Undecided(f"{found}{margin}", shown, trend.tested, trend.leaning, why)

    def _opposed(self, trend: Comparison, line: str, whole: str, step: Comparison, where: str, tests: int) -> Undecided:
        """What is said if a step goes the other way, so that the claim cannot hold."""
        change = self._change(step)
        by = points(change if change.difference > 0 else change.mirrored())
        found = f"{self._is(trend, line, whole)}; from {where} it goes the other way by {by}"
        return Undecided(
            found,
            facts(change, FALL if change.difference < 0 else ""),
            leaning="against",
            why=corrected_away(tests, "test") if two_sided(tests * step.p_below) > LEVEL else None,
        )

    def _is(self, trend: Comparison, line: str, whole: str) -> str:
        return f"the change of {line} is {points(self._change(trend))} from {whole}"

    def _change(self, trend: Comparison) -> Comparison:
        """The trend, or a step, as a change of accuracy, in place of positive in the claimed direction."""
        return trend if self.direction == "rises" else trend.mirrored()


def _trend(table: NDArray[np.float64], unit: Unit) -> Contrast:
    """The change of each unit's fitted line from the first cell to the last. table: cells × units."""
    cells = len(table)
    weights = 2.0 * np.arange(cells) - (cells - 1)  # whole numbers, so that the contrast lies on a grid
    scale = 2 * (cells - 1) / float(weights @ weights)
    return _contrast(scale * (weights @ table), unit, scale * float(weights[weights > 0].sum()))


def _contrast(values: NDArray[np.float64], unit: Unit, largest: float) -> Contrast:
    return image_contrast(values, largest=largest) if unit == "image" else seed_contrast(values)
