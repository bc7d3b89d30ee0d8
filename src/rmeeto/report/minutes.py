"""A chart of minutes over GPUs: predicted, what they are made of, and the paper's where it has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from rmeeto.speed import Minutes

CHART_STYLE: Any = {  # matplotlib names its settings in a type of its own
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "font.size": 9.0,
}
PARTS: dict[str, tuple[str, Callable[[Minutes], float]]] = {
    "training": ("#3b6fb6", lambda one: one.training_minutes),
    "communication": ("#d1495b", lambda one: one.communication_minutes),
    "waiting for images": ("#edae49", lambda one: one.waiting_minutes),
    "evaluation": ("#7fa3d1", lambda one: one.evaluation_minutes),
    "starting up": ("#9a9a9a", lambda one: one.start_minutes),
}
LEAST_SHARE = 0.005  # a part that is nowhere more than this would be an invisible bar with a name


def minutes_figure(curve: Sequence[Minutes], *, title: str, paper: Mapping[int, float]) -> Figure:
    """Minutes over the number of GPUs, both logarithmic, beside the shares that they are made of.

    paper: minutes by number of GPUs, empty if the paper has no such setting.
    """
    with matplotlib.rc_context(CHART_STYLE):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)  # a folder's name may hold a $
    _draw_minutes(left, curve, paper)
    _draw_shares(right, curve)
    return figure


def _draw_minutes(axes: Axes, curve: Sequence[Minutes], paper: Mapping[int, float]) -> None:
    devices = [one.machines.devices for one in curve]
    totals = [one.total_minutes for one in curve]
    ideal = [totals[0] * devices[0] / count for count in devices]
    axes.plot(devices, ideal, color="0.6", linestyle=(0, (4, 3)), linewidth=1, label="if n GPUs took 1/n")
    axes.plot(devices, totals, color="#1d3557", marker="o", markersize=4, label="predicted")
    if paper:
        axes.plot(
            list(paper), list(paper.values()), "s", color="#d1495b", markerfacecolor="none", label="paper, Table 3"
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(devices, [str(count) for count in devices])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("GPUs")
    axes.set_ylabel("minutes")
    axes.legend(frameon=False, fontsize=8)


def _draw_shares(axes: Axes, curve: Sequence[Minutes]) -> None:
    places = range(len(curve))
    bottom = [0.0] * len(curve)
    for name, (colour, part) in PARTS.items():
        shares = [100 * part(one) / one.total_minutes for one in curve]
        if max(shares) < 100 * LEAST_SHARE:
            continue
        axes.bar(places, shares, 0.7, bottom, color=colour, label=name)
        bottom = [low + share for low, share in zip(bottom, shares, strict=True)]
    axes.set_xticks(list(places), [str(one.machines.devices) for one in curve])
    axes.set_xlabel("GPUs")
    axes.set_ylabel("% of the minutes")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
