"""The report's charts: inline SVG that takes its colours from the page, for light, dark and print.

matplotlib knows only fixed colours. The charts are drawn in placeholder colours, and each becomes a CSS variable.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rmeeto.evaluation.results import EpochScore
from rmeeto.reduction import Schedule

INK, SOFT, LINE = "#010101", "#020202", "#030303"
WHOLE, FREE, TRAINED = "#040404", "#050505", "#060606"
CSS_NAMES = {INK: "ink", SOFT: "soft", LINE: "line", WHOLE: "whole", FREE: "free", TRAINED: "trained"}

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
LABELLED_BLOCKS = 12  # more bars leave no room for a number on each


@dataclass(frozen=True)
class Chart:
    """A finished picture. svg: an ``<svg>`` element to put into a page that defines the CSS variables."""

    caption: str
    svg: str


def accuracy_chart(epochs: Sequence[EpochScore], *, start_percent: float, whole_percent: float | None) -> Chart:
    """Validation accuracy after each epoch.

    start_percent: before the first epoch. whole_percent: the unreduced model's, drawn as a line.
    """
    numbers = [0, *(score.epoch for score in epochs)]
    percents = [start_percent, *(score.top1_percent for score in epochs)]
    figure, axes = _canvas()
    if whole_percent is not None:
        axes.axhline(whole_percent, color=WHOLE, linestyle=(0, (4, 3)), linewidth=1.4)
        above = max(percents[len(percents) // 2 :]) < whole_percent  # keep clear of the curve's right end
        _label(axes, 0.995, whole_percent, f"unreduced {whole_percent:.1f}", WHOLE, above=above)
    axes.plot(numbers, percents, color=TRAINED, marker="o", markersize=4, markeredgewidth=0)
    axes.plot([0], [start_percent], color=FREE, marker="o", markersize=7, markeredgewidth=0, zorder=3)
    known = percents if whole_percent is None else [*percents, whole_percent]
    margin = 0.14 * max(max(known) - min(known), 1.0)
    axes.set_ylim(min(known) - margin, max(known) + margin)
    axes.set_xlabel("epochs of training")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return Chart("Validation accuracy, top-1 %", _svg(figure, "accuracy"))


def loss_chart(steps: Sequence[int], losses: Sequence[float]) -> Chart:
    """Training loss as logged."""
    figure, axes = _canvas()
    axes.plot(list(steps), list(losses), color=TRAINED)
    axes.set_xlabel("optimiser steps")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return Chart("Training loss", _svg(figure, "loss"))


def tokens_chart(whole: Schedule, reduced: Schedule) -> Chart:
    """Tokens that each block's mixer sees, with and without the reduction."""
    figure, axes = _canvas(width=9.0, height=2.5)
    blocks = range(len(whole.tokens))
    axes.bar(blocks, whole.tokens, width=0.78, color=WHOLE, alpha=0.25)
    axes.bar(blocks, reduced.tokens, width=0.78, color=TRAINED)
    if len(blocks) <= LABELLED_BLOCKS:
        for block, tokens in zip(blocks, reduced.tokens, strict=True):
            axes.text(block, tokens, f"{tokens}", ha="center", va="bottom", color=INK)
    axes.set_xlabel("block")
    axes.set_xlim(-0.6, len(blocks) - 0.4)
    axes.set_ylim(0, whole.start * 1.12)
    axes.xaxis.set_major_locator(MaxNLocator(24, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(axis="x", length=0)
    return Chart("Tokens that each block sees; pale, without reduction", _svg(figure, "tokens"))


def _canvas(width: float = 4.6, height: float = 2.9) -> tuple[Figure, Axes]:
    """An empty figure, in inches, outside of pyplot's global list."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.add_subplot()


def _label(axes: Axes, x: float, y: float, text: str, color: str, *, above: bool) -> None:
    """Text beside a horizontal line; x in shares of the axes, y in data."""
    axes.annotate(
        text,
        (x, y),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3 if above else -3),
        textcoords="offset points",
        ha="right",
        va="bottom" if above else "top",
        color=color,
        fontsize=9,
    )


def _svg(figure: Figure, name: str) -> str:
    """The figure as one ``<svg>`` element: no prologue, no metadata, ids of its own, colours from the page."""
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
