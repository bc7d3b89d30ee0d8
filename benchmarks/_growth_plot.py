"""The picture of `growth.py`: time above, memory below, one column for each axis, both scales logarithmic."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

ROWS = (("median_ms", "time of a forward pass, ms"), ("grown_mib", "peak memory above weights, MiB"))
COLOURS = ("#2458a6", "#c4601d")
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "rmeeto",  # the same figures give the same file
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
}


def draw(found: dict[str, Any], path: Path) -> None:
    """Write the axes that `growth.py` measured as an SVG."""
    with rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(found), 5.0), layout="constrained", facecolor="white")
        panels = figure.subplots(len(ROWS), len(found), squeeze=False)
        for (key, label), row in zip(ROWS, panels, strict=True):
            row[0].set_ylabel(label)
            for panel, axis in zip(row, found.values(), strict=True):
                draw_panel(panel, axis, key)
        for panel, axis in zip(panels[-1], found.values(), strict=True):
            panel.set_xlabel(axis["unit"])
        for panel, name in zip(panels[0], found, strict=True):
            panel.set_title(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})


def draw_panel(panel: Axes, axis: dict[str, Any], key: str) -> None:
    """Points, and the fitted power as a straight line through their middle."""
    panel.set_xscale("log")
    panel.set_yscale("log")
    for (series, powers), colour in zip(axis["exponents"].items(), COLOURS, strict=False):
        points = [point for point in axis["points"] if point["series"] == series and point[key]]
        places, values = [point["at"] for point in points], [point[key] for point in points]
        panel.plot(places, values, "o", color=colour, markersize=3.5)
        if (power := powers[key]) is not None:
            factor = math.exp(
                sum(math.log(y) - power * math.log(x) for x, y in zip(places, values, strict=True)) / len(points)
            )
            ends = [min(places), max(places)]
            panel.plot(ends, [factor * x**power for x in ends], color=colour, label=f"{series}: power {power:.2f}")
    panel.set_xticks(sorted({point["at"] for point in axis["points"]}))
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    for scale in (panel.xaxis, panel.yaxis):
        scale.set_major_formatter(FuncFormatter(in_full))
        scale.set_minor_locator(NullLocator())
    low, high = panel.get_ylim()
    panel.set_ylim(low / 1.5, high * (high / low) ** 0.35)  # room for the legend
    panel.tick_params(axis="x", rotation=40)
    panel.legend(frameon=False, fontsize=7, loc="upper left")


def in_full(value: float, _: int) -> str:
    """Thousands with a comma, four figures of fractions, no powers of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"
