"""The report of a run: one self-contained HTML page.

It needs a run's results. Log, benchmark and pictures are optional; without them their sections are left out.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rmeeto import __version__
from rmeeto.data.media import Kind
from rmeeto.evaluation.results import Results, Row
from rmeeto.recipe import parse_recipe
from rmeeto.reduction import Schedule
from rmeeto.report.charts import accuracy_chart, loss_chart, tokens_chart
from rmeeto.report.facts import facts, kind_of
from rmeeto.report.svg import Chart
from rmeeto.report.table import table, timed
from rmeeto.report.templates import render
from rmeeto.report.words import duration, plural, signed
from rmeeto.runtime.doctor import Machine
from rmeeto.speed import BenchReport
from rmeeto.viz import Panel
from rmeeto.viz import Row as Pictures

UNREDUCED, REDUCED = "unreduced", "reduced"
PICTURE_PIXELS = 240  # twice the size on the page, for dense screens
Log = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Reduced:
    """A run that reduced: the three rows of its table."""

    whole: Row
    merged: Row
    trained: Row

    @classmethod
    def of(cls, results: Results) -> Reduced | None:
        """The rows by name; None for a run that trained without a reduction."""
        rows = {row.name: row for row in results.rows}
        if UNREDUCED not in rows or REDUCED not in rows:
            return None
        return cls(rows[UNREDUCED], rows[REDUCED], results.rows[-1])


class Tile(NamedTuple):
    """One figure at the top."""

    label: str
    value: str
    beside: str


def report(
    results: Results,
    *,
    command: str,
    machine: Machine,
    log: Log = (),
    schedule: Schedule | None = None,
    speed: BenchReport | None = None,
    pictures: Sequence[Pictures] = (),
) -> str:
    """Lay out a run as a self-contained HTML page.

    results: of :func:`rmeeto.training.retrain`. command: the command that repeats the run. machine: where it ran.
    log: records of the run's ``log.jsonl`` (:func:`rmeeto.training.runlog.read_log`), for the loss curve.
    schedule: the reduced model's, for the chart of tokens per block. speed: a benchmark of the same reduction, which
    then gives the speeds in place of the evaluation's. pictures: of merged groups
    (:func:`rmeeto.viz.merged_groups`), the same blocks for every image.
    """
    recipe = parse_recipe(results.recipe)
    if speed is not None:
        results = timed(results, recipe.reduction, speed)
    reduced, kind = Reduced.of(results), kind_of(recipe)
    return render(
        "report.html.j2",
        title=f"{recipe.model}, {recipe.reduction}: rmeeto report",
        kicker=f"{recipe.model} · {recipe.data} · {'trained whole' if reduced is None else recipe.reduction}",
        headline=headline(results, reduced),
        tiles=tiles(results, reduced),
        table=table(results.rows, speed, kind),
        charts=chart_sections(results, reduced, log, schedule, kind),
        gallery=gallery(pictures),
        command=command,
        facts=facts(results, recipe, machine),
        recipe=results.recipe.strip(),
        footer=f"Written by rmeeto {__version__}. Every figure was counted or measured in this run.",
    )


def headline(results: Results, reduced: Reduced | None) -> str:
    """The result in one or two sentences, worded so that they hold for every result."""
    epochs = plural(len(results.epochs), "epoch")
    if reduced is None:
        before, after = results.rows[0], results.rows[-1]
        return f"{epochs} of training took the accuracy from {before.top1_percent:.1f} to {after.top1_percent:.1f} %."
    whole, merged, trained = reduced.whole, reduced.merged, reduced.trained
    return (
        f"{100 * trained.reduction_ratio:.0f} % fewer tokens run {trained.speedup:.2f}× as fast. "
        f"Accuracy: {whole.top1_percent:.1f} % unreduced, {merged.top1_percent:.1f} % reduced without training, "
        f"{trained.top1_percent:.1f} % after {epochs} of re-training."
    )


def tiles(results: Results, reduced: Reduced | None) -> list[Tile]:
    """The figures that matter most."""
    first, last = results.rows[0], results.rows[-1]
    change = last.top1_percent - first.top1_percent
    accuracy = Tile(
        "Accuracy, top-1",
        f"{last.top1_percent:.1f} %",
        f"{signed(change)} points against {first.name} ({first.top1_percent:.1f} %)",
    )
    time = Tile(
        "Training and evaluation", duration(results.seconds), f"{plural(results.steps, 'step')} on {results.device}"
    )
    if reduced is None:
        return [accuracy, time]
    promise = reduced.whole.gflops_exact / reduced.trained.gflops_exact
    share = 100 * reduced.trained.reduction_ratio
    return [
        accuracy,
        Tile("Speed, measured", f"{reduced.trained.speedup:.2f}×", f"FLOPs promise {promise:.2f}×"),
        Tile("Tokens saved", f"{share:.0f} %", f"{first.tokens} → {last.tokens} at the last block"),
        time,
    ]


def chart_sections(
    results: Results, reduced: Reduced | None, log: Log, schedule: Schedule | None, kind: Kind
) -> list[dict[str, Any]]:
    """The charts for which there is data."""
    sections = []
    if reduced is not None and schedule is not None:
        whole = Schedule((0,) * len(schedule.counts), schedule.start)
        note = f"{schedule.start} tokens enter, one of them the class token; some blocks begin with a reduction."
        sections.append({"title": "Tokens per block", "note": note, "charts": [tokens_chart(whole, schedule)]})
    curves: list[Chart] = []
    if results.epochs:
        start = results.rows[0] if reduced is None else reduced.merged
        curves.append(
            accuracy_chart(
                results.epochs,
                start_percent=start.top1_percent,
                whole_percent=None if reduced is None else reduced.whole.top1_percent,
            )
        )
    steps = [record for record in log if record["event"] == "step" and record["loss"] is not None]
    if len(steps) > 1:
        curves.append(loss_chart([record["step"] for record in steps], [record["loss"] for record in steps]))
    if curves:
        note = f"Accuracy on the validation {kind.many}, the first point before any training; "
        note += f"loss on the training {kind.many}, "
        note += "with the recipe’s augmentation and label smoothing, so it does not reach zero."
        sections.append({"title": "Re-training" if reduced else "Training", "note": note, "charts": curves})
    return sections


def gallery(pictures: Sequence[Pictures]) -> dict[str, Any]:
    """The pictures transposed: a column per image, a row per stage."""
    stages = [[picture(panel, row.name) for panel in row.panels] for row in pictures]
    titles = [panel.title for panel in pictures[0].panels] if pictures else []
    return {
        "columns": [row.name for row in pictures],
        "rows": list(zip(titles, zip(*stages, strict=True), strict=True)),
    }


def picture(panel: Panel, name: str) -> dict[str, str]:
    """A panel as a ``data:`` address, small enough for a page full of them."""
    small = panel.picture.copy()
    small.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
    png = io.BytesIO()
    small.save(png, "PNG", optimize=True)
    address = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
    return {"address": address, "alt": f"{name}, {panel.title}"}
