"""Charts of a table: curves along its numeric label, else dots by row, the paper's figures and ours in separate charts.

Accuracies of small models and the paper's cannot share an axis; each chart has its own, so shapes can be compared.
Counted figures are about the same models as the paper's and stand on one axis. A table of accuracies and speeds has a
chart of one against the other first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from rmeeto.experiments.definition import COUNTED, Column
from rmeeto.experiments.series import FEWEST_STEPS, Point, Series, numeric_label, ours, printed, series
from rmeeto.experiments.summary import Summary
from rmeeto.experiments.tradeoff import tradeoff
from rmeeto.report.svg import INK, NARROW, SERIES, Chart, canvas, plain, to_svg

UNITS = {
    "top1": "top-1 accuracy, %",
    "gflops_paper": "G operations",
    "gflops_network": "G operations",
    "gflops_exact": "G operations",
    "nats": "nats",
    "minutes": "minutes",
}
FEWEST_ROWS, MOST_ROWS = 4, 40  # of a chart of dots
MOST_TICKS = 8
AXIS = 3.2  # inches between the first and the last step, of a chart's width
DIGIT = 0.1  # inches that a digit below the axis takes, a little too wide
MOST_DOTS = len(SERIES)


def charts(one: Summary) -> list[Chart]:
    """All charts of a table, column by column; none if it has too few figures, or they are told faster as numbers.

    A column of the paper's that has no counterpart of ours has a chart only if the whole table has none.
    """
    absent = [all(line[number].missing for line in one.figures) for number in range(len(one.table.columns))]
    shown = [number for number, missing in enumerate(absent) if not missing or all(absent)]
    against_speed = tradeoff(one)
    by_column = [chart for number in shown for chart in _column(one, number, one.table.columns[number])]
    return by_column if against_speed is None else [against_speed, *by_column]


def _column(one: Summary, number: int, column: Column) -> Iterator[Chart]:
    along = numeric_label(one)
    name = re.sub("[^a-z0-9]+", "-", f"chart-{one.table.name}-{column.key}".lower())
    unit = f" ({UNITS[column.measure]})" if column.measure in UNITS and "(" not in column.title else ""
    theirs, own = (series(one, number, read, along) for read in (printed, ours))
    if column.measure in COUNTED:
        if curves := _curves(own):
            how = "predicted" if column.measure == "predicted_minutes" else "counted"
            title = f"{column.title}{unit}: rings as printed, lines as {how}"
            yield Chart(title, to_svg(_draw_curves(curves, along or "", rings=theirs), name))
        return
    for shown, whose in ((theirs, "as the paper prints it"), (own, "ours")):
        ident = f"{name}-{whose.split()[0]}"
        spread = ", bars ± one standard deviation" if any(p.spread is not None for s in shown for p in s.points) else ""
        caption = f"{column.title}, {whose}{unit}{spread}"
        if curves := _curves(shown):
            yield Chart(caption, to_svg(_draw_curves(curves, along or ""), ident))
        elif own:
            same = {one.name for one in own}
            shown = [one for one in shown if one.name in same]
            steps = sorted({x for one in shown for x, _ in _placed(one.points)})
            if FEWEST_ROWS <= len(shown) <= MOST_ROWS and len(steps) <= MOST_DOTS:
                yield Chart(caption, to_svg(_draw_dots(shown, steps, along or ""), ident))


def _curves(found: Sequence[Series]) -> list[Series]:
    """The series that are long enough for a curve; none if they are too many for a chart, or hold few of the points."""
    long = [one for one in found if len(_placed(one.points)) >= FEWEST_STEPS]
    points, all_points = (sum(len(_placed(one.points)) for one in part) for part in (long, found))
    return long if len(long) <= len(SERIES) and 2 * points >= all_points else []


def _draw_curves(curves: Sequence[Series], along: str, rings: Sequence[Series] = ()) -> Canvas:
    """Lines over the numeric label. rings: further figures of the same series, as open circles."""
    figure, axes = canvas(NARROW, 2.7 + 0.2 * (len(curves) if curves[0].name else 0))
    printed_ones = {one.name: one for one in rings}
    for one, colour in zip(curves, SERIES, strict=False):
        points = sorted(_placed(one.points))
        axes.plot(
            *zip(*points, strict=True),
            color=colour,
            marker="o",
            markersize=4,
            markeredgewidth=0,
            label=plain(one.name),
        )
        for point in one.points:
            if point.x is not None and point.spread is not None:
                ends = [point.y - point.spread, point.y + point.spread]
                axes.plot([point.x, point.x], ends, color=colour, linewidth=1.0)
        for x, y in _placed(printed_ones[one.name].points) if one.name in printed_ones else ():
            axes.plot([x], [y], color=INK, marker="o", markersize=8, fillstyle="none", markeredgewidth=1)
    axes.set_xlabel(plain(along))
    steps = sorted({x for one in curves for x, _ in _placed(one.points)})
    if len(steps) <= MOST_TICKS:
        axes.set_xticks(steps, tick_labels(steps))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(MOST_TICKS))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    if curves[0].name:
        figure.legend(loc="outside lower left", frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4)
    return figure


def tick_labels(steps: Sequence[float]) -> list[str]:
    """The steps as text, in rising order; empty where a label would touch the one before it."""
    scale = AXIS / (steps[-1] - steps[0]) if len(steps) > 1 else 0.0
    shown: list[str] = []
    end = -math.inf  # of the last label that is shown, in inches
    for step in steps:
        text = f"{step:g}"
        middle, half = (step - steps[0]) * scale, len(text) * DIGIT / 2
        fits = middle - half >= end + DIGIT
        shown.append(text if fits else "")
        end = middle + half if fits else end
    return shown


def _draw_dots(rows: Sequence[Series], steps: Sequence[float], along: str) -> Canvas:
    """One line of dots for each series, in the order of the table. steps: of the numeric label, a colour for each."""
    figure, axes = canvas(NARROW, 0.9 + 0.22 * len(rows))
    colours = dict(zip(steps, SERIES, strict=False))
    for place, one in enumerate(rows):
        for point in one.points:
            colour = SERIES[0] if point.x is None else colours[point.x]
            spread = point.spread or 0.0
            axes.plot([point.y - spread, point.y + spread], [place, place], color=colour, linewidth=1.2)
            axes.plot([point.y], [place], color=colour, marker="o", markersize=5, markeredgewidth=0)
    axes.set_yticks(range(len(rows)), [plain(one.name) for one in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=True, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if steps:
        for step, colour in colours.items():
            axes.plot([], [], color=colour, marker="o", markersize=5, linestyle="", label=f"{plain(along)} {step:g}")
        figure.legend(loc="outside lower left", frameon=False, fontsize=9, labelcolor=INK, ncols=4, handletextpad=0.1)
    return figure


def _placed(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Points that have a place on the axis of the numeric label."""
    return [(point.x, point.y) for point in points if point.x is not None]
