"""A chart of milliseconds per image over image size: our model, the rival in every engine, and where they cross."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from rmeeto.report.minutes import CHART_STYLE
from rmeeto.speed import AgainstReport, Timing

STYLE: Any = {
    **CHART_STYLE,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "rmeeto",  # the same figures give the same file
}
OURS = ("#9bb8dd", "#1d4e9e", "#3f8f8a", "#6a51a3")  # the unreduced model, then reductions
THEIRS = ("#e7a27c", "#d1495b", "#8c2d04")
PANEL = (4.3, 3.4)  # inches


def against_figure(report: AgainstReport) -> Figure:
    """A panel for every batch size and precision, both axes logarithmic.

    A dotted line marks where our fastest variant and the rival's fastest engine cross, between two measured sizes.
    """
    settings = report.settings()
    columns = len({precision for _, precision in settings})
    rows = math.ceil(len(settings) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + 0.9), layout="constrained", facecolor="white")
        panels = figure.subplots(rows, columns, squeeze=False, sharey="row").ravel()
    figure.suptitle(
        f"{report.model} against {report.rival}: {report.machine.processor}, "
        f"{report.machine.threads} thread{'' if report.machine.threads == 1 else 's'}",
        x=0.01,
        ha="left",
        fontsize=10,
        parse_math=False,  # a folder's name may hold a $
    )
    for panel, setting in zip(panels, settings, strict=False):
        _draw(panel, report, setting)
    for panel in panels[len(settings) :]:
        panel.set_axis_off()
    handles = {line.get_label(): line for panel in panels for line in panel.get_lines() if line.get_label()[0] != "_"}
    figure.legend(
        handles.values(),
        [label.replace("$", r"\$") for label in handles],
        loc="outside lower left",
        frameon=False,
        fontsize=8.5,
        ncols=max(1, 3 * columns // 2),
    )
    return figure


def _draw(axes: Axes, report: AgainstReport, setting: tuple[int, str]) -> None:
    batch, precision = setting
    curves = report.ours(setting)
    for curve, colour in zip(curves, OURS, strict=False):
        _line(axes, curve, colour, "o-", 2.0)
    engines = dict.fromkeys(one.variant for one in report.timings if not one.ours)
    for engine, colour in zip(engines, THEIRS, strict=False):
        found = [one for size in report.sizes for one in report.at(setting, size) if one.variant == engine]
        _line(axes, [one for one in found if not one.ours and one.absent is None], colour, "s--", 1.3)
    axes.set_title(f"{precision}, {batch} image{'s' if batch > 1 else ''} at a time", loc="left", fontsize=9.5)
    _mark_crossing(axes, report, setting, curves)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(report.sizes, [str(size) for size in report.sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("image size, pixels on a side")
    axes.set_ylabel("ms per image")


def _line(axes: Axes, curve: Sequence[Timing], colour: str, style: str, width: float) -> None:
    if curve:
        sizes, times = [one.size for one in curve], [one.ms_per_image for one in curve]
        axes.plot(sizes, times, style, color=colour, linewidth=width, markersize=4, label=curve[0].label)


def _mark_crossing(
    axes: Axes, report: AgainstReport, setting: tuple[int, str], curves: Sequence[Sequence[Timing]]
) -> None:
    """Where the rival's advantage over our fastest variant ends, by a straight line between the logarithms."""
    best = [min(timings, key=lambda one: one.ms_per_image) for timings in zip(*curves, strict=True)]
    place = crossing(report.sizes, [report.speedup(one).median for one in best])
    if place is not None:
        axes.axvline(place, color="0.35", linestyle=":", linewidth=1.2)
        axes.annotate(
            f"crossover\n≈ {place:.0f} px",
            (place, 0.03),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=8,
            color="0.25",
        )


def crossing(sizes: Sequence[int], ratios: Sequence[float]) -> float | None:
    """Where the ratio rises above 1 for the last time, between two sizes; None if it does not, or falls again."""
    found = None
    for (left, low), (right, high) in pairwise(zip(sizes, ratios, strict=True)):
        if low <= 1 < high:
            share = -math.log(low) / (math.log(high) - math.log(low))
            found = left * (right / left) ** share
    return found if ratios[-1] > 1 else None
