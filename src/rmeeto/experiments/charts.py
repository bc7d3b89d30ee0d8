"""Charts of a table: curves along its numeric label, else dots by row, the paper's figures and ours in separate charts.

Accuracies of small models and the paper's cannot share an axis; each chart has its own, so shapes can be compared.
Counted figures are about the same models as the paper's and stand on one axis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from rmeeto.experiments.definition import COUNTED, Column
from rmeeto.experiments.series import FEWEST_STEPS, Series, numeric_label, ours, printed, series
from rmeeto.experiments.summary import Summary
from rmeeto.report.svg import INK, SERIES, Chart, canvas, to_svg

WIDTH = 4.2  # inches; at this size letters are still readable on a telephone
UNITS = {
    "top1": "top-1 accuracy, %",
    "gflops_paper": "G operations",
    "gflops_network": "G operations",
    "gflops_exact": "G operations",
    "images_per_second": "images per second",
    "nats": "nats",
    "minutes": "minutes",
}
FEWEST_ROWS, MOST_ROWS = 4, 40  # of a chart of dots
MOST_DOTS = len(SERIES)


def charts(one: Summary) -> list[Chart]:
    """All charts of a table, column by column; none if it has too few figures, or they are told faster as numbers."""
    return [chart for number, column in enumerate(one.table.columns) for chart in _column(one, number, column)]


def _column(one: Summary, number: int, column: Column) -> Iterator[Chart]:
    along = numeric_label(one)
    name = re.sub("[^a-z0-9]+", "-", f"chart-{one.table.name}-{column.key}".lower())
    unit = f" ({UNITS[column.measure]})" if column.measure in UNITS else ""
    theirs, own = (series(one, number, read, along) for read in (printed, ours))
    if column.measure in COUNTED:
        if curves := _curves(own):
            title = f"{column.title}{unit}: rings as printed, lines as counted"
            yield Chart(title, to_svg(_draw_curves(curves, along or "", rings=theirs), name))
        return
    for shown, whose in ((theirs, "as the paper prints it"), (own, "ours")):
        ident = f"{name}-{whose.split()[0]}"
        spread = ", bars ± one standard deviation" if any(p.spread is not None for s in shown for p in s.points) else ""
        caption = f"{column.title}, {whose}{unit}{spread}"
        if curves := _curves(shown):
            yield Chart(caption, to_svg(_draw_curves(curves, along or ""), ident))
        elif shown is own or own:
            steps = sorted({point.x for one in shown for point in one.points if point.x is not None})
            if FEWEST_ROWS <= len(shown) <= MOST_ROWS and len(steps) <= MOST_DOTS:
                yield Chart(caption, to_svg(_draw_dots(shown, steps, along or ""), ident))


def _curves(found: Sequence[Series]) -> list[Series]:
    """The series that are long enough for a curve; none if they are too many for one chart."""
    long = [one for one in found if len([point for point in one.points if point.x is not None]) >= FEWEST_STEPS]
    return long if len(long) <= len(SERIES) else []


def _draw_curves(curves: Sequence[Series], along: str, rings: Sequence[Series] = ()) -> Canvas:
    """Lines over the numeric label. rings: further figures of the same series, as open circles."""
    figure, axes = canvas(WIDTH, 2.7 + 0.2 * (len(curves) if curves[0].name else 0))
    printed_ones = {one.name: one for one in rings}
    for one, colour in zip(curves, SERIES, strict=False):
        points = sorted(one.points, key=lambda point: point.x or 0.0)
        x, y = [point.x for point in points], [point.y for point in points]
        axes.plot(x, y, color=colour, marker="o", markersize=4, markeredgewidth=0, label=_plain(one.name))
        _bars(axes, [(p.x or 0.0, p.y, p.spread) for p in points], colour)
        for point in printed_ones[one.name].points if one.name in printed_ones else ():
            axes.plot([point.x], [point.y], color=INK, marker="o", markersize=8, fillstyle="none", markeredgewidth=1)
    axes.set_xlabel(_plain(along))
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    if curves[0].name:
        figure.legend(loc="outside lower left", frameon=False, fontsize=9, handlelength=1.4)
    return figure


def _draw_dots(rows: Sequence[Series], steps: Sequence[float], along: str) -> Canvas:
    """One line of dots for each series, in the order of the table. steps: of the numeric label, a colour for each."""
    figure, axes = canvas(WIDTH, 0.9 + 0.22 * len(rows))
    colours = dict(zip(steps, SERIES, strict=False))
    for place, one in enumerate(rows):
        for point in one.points:
            colour = SERIES[0] if point.x is None else colours[point.x]
            spread = point.spread or 0.0
            axes.plot([point.y - spread, point.y + spread], [place, place], color=colour, linewidth=1.2)
            axes.plot([point.y], [place], color=colour, marker="o", markersize=5, markeredgewidth=0)
    axes.set_yticks(range(len(rows)), [_plain(one.name) for one in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=True, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if steps:
        for step, colour in colours.items():
            axes.plot([], [], color=colour, marker="o", markersize=5, linestyle="", label=f"{_plain(along)} {step:g}")
        figure.legend(loc="outside lower left", frameon=False, fontsize=9, ncols=4, handletextpad=0.1)
    return figure


def _bars(axes: Axes, points: Sequence[tuple[float, float, float | None]], colour: str) -> None:
    for x, y, spread in points:
        if spread is not None:
            axes.plot([x, x], [y - spread, y + spread], color=colour, linewidth=1.0)


def _plain(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")
