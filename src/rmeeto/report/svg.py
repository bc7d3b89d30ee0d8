"""Charts as inline SVG that takes its colours from the page, for light, dark and print.

matplotlib knows only fixed colours. The charts are drawn in placeholder colours, and each becomes a CSS variable, which
``templates/base.html.j2`` defines.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, SOFT, LINE = "#010101", "#020202", "#030303"
WHOLE, FREE, TRAINED = "#040404", "#050505", "#060606"
SERIES = ("#0a0a0a", "#0b0b0b", "#0c0c0c", "#0d0d0d", "#0e0e0e", "#0f0f0f", "#101010")  # curves of equal rank
CSS_NAMES = {
    INK: "ink",
    SOFT: "soft",
    LINE: "line",
    WHOLE: "whole",
    FREE: "free",
    TRAINED: "trained",
    **{colour: f"series-{number}" for number, colour in enumerate(SERIES, 1)},
}
NARROW = 4.2  # inches of width at which letters are still readable on a telephone

STYLE: Any = {  # matplotlib names its settings in a type of its own
    "svg.fonttype": "none",  # text stays text: selectable, small, in the page's font
    "font.size": 10.0,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "ytick.major.size": 0.0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Chart:
    """A finished picture. svg: an ``<svg>`` element to put into a page that defines the CSS variables."""

    caption: str
    svg: str


def canvas(width: float = 4.6, height: float = 2.9) -> tuple[Figure, Axes]:
    """An empty figure, in inches, outside of pyplot's global list."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.add_subplot()


def plain(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")


def to_svg(figure: Figure, name: str) -> str:
    """The figure as one ``<svg>`` element: no prologue, no metadata, ids of its own, colours from the page.

    name: of the chart on its page, in characters that an id may have.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The salt makes ids repeatable, and different from chart to chart: they share one page.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r" font-family: [^;\"]+;", "", svg)
    for stand_in, variable in CSS_NAMES.items():
        svg = svg.replace(stand_in, f"var(--{variable})")
    return svg
