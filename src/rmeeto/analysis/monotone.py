"""Claims about an ordered list of cells: accuracy falls, or rises, from the first to the last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmeeto.analysis.comparison import Comparison, compare, two_sided
from rmeeto.analysis.contrast import Contrast, Unit, correctness, image_contrast, percent, seed_contrast
from rmeeto.analysis.finding import Finding, Statement
from rmeeto.analysis.mean import LEVEL
from rmeeto.analysis.words import above_margin, facts, neither, points
from rmeeto.checks import number
from rmeeto.errors import ConfigError, UnknownName


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
        """What the cells say, in their order. The figures are positive in the claimed direction.

        cells: by name, the correctness of the same images, or the accuracies in per cent from the same seeds.

        Raises:
            ConfigError: fewer than two cells, cells of several lengths, or other numbers.
            UnknownName: another unit.
        """
        table = self._table(cells, unit) * (1.0 if self.direction == "rises" else -1.0)
        names = list(cells)
        whole = f"{names[0]} to {names[-1]}"
        trend = compare(_trend(table, unit), self.margin)
        steps = {
            f"{first} to {second}": compare(_contrast(difference, unit, 1.0))
            for first, second, difference in zip(names[:-1], names[1:], np.diff(table, axis=0), strict=True)
        }
        worst = min(steps, key=lambda name: steps[name].p_below)
        opposed = two_sided(len(steps) * steps[worst].p_below) <= LEVEL
        step_is_worst = steps[worst].p_below < trend.p_below
        return Finding(
            self,
            p_holds=1.0 if opposed else two_sided(trend.p_above),
            p_fails=two_sided((len(steps) + 1) * min(steps[worst].p_below, trend.p_below)),
            can_hold=trend.decidable,
            can_fail=trend.decidable,
            holds=Statement(f"{self._along(trend, whole)}, and no step goes surely the other way", facts(trend)),
            fails=self._reversed(steps[worst], worst) if step_is_worst else self._too_little(trend, whole),
            undecided=self._undecided(trend, whole, steps[worst].mirrored() if opposed else None, worst),
            figures={f"{whole}, fitted": trend} | steps,
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

    def _along(self, trend: Comparison, whole: str) -> str:
        return f"accuracy {self.direction} by {points(trend)} from {whole}{above_margin(self.margin)}"

    def _reversed(self, pair: Comparison, where: str) -> Statement:
        other_way, word = pair.mirrored(), "rises" if self.direction == "falls" else "falls"
        return Statement(f"accuracy {word} by {points(other_way)} from {where}", facts(other_way))

    def _too_little(self, trend: Comparison, whole: str) -> Statement:
        if not self.margin:
            return self._reversed(trend, whole)
        change = self._change(trend)
        found = f"the change of accuracy is {points(change)} from {whole}"
        return Statement(f"{found}, less than the margin of {self.margin:g}", facts(change))

    def _undecided(self, trend: Comparison, whole: str, opposed: Comparison | None, step: str) -> Statement:
        change = self._change(trend)
        found = f"the change of accuracy is {points(change)} from {whole}"
        if opposed:
            return Statement(f"{found}, but from {step} it goes the other way by {points(opposed)}", facts(opposed))
        return Statement(f"{found}, {neither(trend)}", facts(change))

    def _change(self, trend: Comparison) -> Comparison:
        """The trend with its sign, in place of positive in the claimed direction."""
        return trend if self.direction == "rises" else trend.mirrored()


def _trend(table: NDArray[np.float64], unit: Unit) -> Contrast:
    """The change of each unit's fitted line from the first cell to the last. table: cells × units."""
    cells = len(table)
    weights = 2.0 * np.arange(cells) - (cells - 1)  # whole numbers, so that the contrast lies on a grid
    scale = 2 * (cells - 1) / float(weights @ weights)
    return _contrast(scale * (weights @ table), unit, scale * float(weights[weights > 0].sum()))


def _contrast(values: NDArray[np.float64], unit: Unit, largest: float) -> Contrast:
    return image_contrast(values, largest=largest) if unit == "image" else seed_contrast(values)
