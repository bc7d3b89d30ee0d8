"""The chart of accuracy against measured speed, for tables that have both."""

from __future__ import annotations

import re

from rmeeto.experiments.series import differing_labels, numeric_label, row_name
from rmeeto.experiments.summary import Summary
from rmeeto.report.svg import INK, NARROW, SERIES, Chart, canvas, plain, to_svg

MARKERS = "osD"  # a second and third round of the colours
FEWEST_POINTS = 3


def tradeoff(one: Summary) -> Chart | None:
    """Our accuracy over our images per second, a colour for each series; None if the table does not have both.

    The last column of accuracies is taken: tables have the training-free one first.
    """
    measures = [column.measure for column in one.table.columns]
    if "top1" not in measures or "images_per_second" not in measures:
        return None
    accuracy, speed = len(measures) - 1 - measures[::-1].index("top1"), measures.index("images_per_second")
    telling = differing_labels(one, numeric_label(one))
    found: dict[str, list[tuple[float, float]]] = {}
    for row, figures in zip(one.table.rows, one.figures, strict=True):
        percent, rate = figures[accuracy].ours, figures[speed].ours
        if percent is not None and rate is not None:
            found.setdefault(row_name(row, telling), []).append((rate, percent))
    if sum(map(len, found.values())) < FEWEST_POINTS or len(found) > len(SERIES) * len(MARKERS):
        return None
    caption = (
        f"Ours, {one.table.columns[accuracy].title}: top-1 accuracy in % over images per second; best is top right"
    )
    return Chart(caption, _draw(found, re.sub("[^a-z0-9]+", "-", f"tradeoff-{one.table.name}".lower())))


def _draw(found: dict[str, list[tuple[float, float]]], ident: str) -> str:
    figure, axes = canvas(NARROW, 2.8 + 0.2 * len(found))
    for number, (name, points) in enumerate(found.items()):
        colour, marker = SERIES[number % len(SERIES)], MARKERS[number // len(SERIES)]
        rates, percents = zip(*sorted(points), strict=True)
        (line,) = axes.plot(rates, percents, color=colour, marker=marker, linewidth=1.2, label=plain(name))
        line.set(markersize=5, markeredgewidth=0)
    axes.set_xlabel("images per second")
    if len(found) > 1:
        figure.legend(loc="outside lower left", frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4)
    return to_svg(figure, ident)
