"""The report's charts."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rmeeto.evaluation.results import EpochScore
from rmeeto.reduction import Schedule
from rmeeto.report.svg import FREE, INK, TRAINED, WHOLE, Chart, canvas, to_svg

LABELLED_BLOCKS = 12  # more bars leave no room for a number on each


def accuracy_chart(epochs: Sequence[EpochScore], *, start_percent: float, whole_percent: float | None) -> Chart:
    """Validation accuracy after each epoch.

    start_percent: before the first epoch. whole_percent: the unreduced model's, drawn as a line.
    """
    numbers = [0, *(score.epoch for score in epochs)]
    percents = [start_percent, *(score.top1_percent for score in epochs)]
    figure, axes = canvas()
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
    return Chart("Validation accuracy, top-1 %", to_svg(figure, "accuracy"))


def loss_chart(steps: Sequence[int], losses: Sequence[float]) -> Chart:
    """Training loss as logged."""
    figure, axes = canvas()
    axes.plot(list(steps), list(losses), color=TRAINED)
    axes.set_xlabel("optimiser steps")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return Chart("Training loss", to_svg(figure, "loss"))


def tokens_chart(whole: Schedule, reduced: Schedule) -> Chart:
    """Tokens that each block's mixer sees, with and without the reduction."""
    figure, axes = canvas(width=9.0, height=2.5)
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
    return Chart("Tokens that each block sees; pale, without reduction", to_svg(figure, "tokens"))


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
