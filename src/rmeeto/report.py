"""The report of a run: one HTML page that needs nothing else, to read, print or send.

It takes a run's results and whatever there is besides (log, benchmark, pictures), and leaves out what there is not.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined

from rmeeto.bench import BenchReport, Measurement
from rmeeto.charts import Chart, accuracy_chart, loss_chart, tokens_chart
from rmeeto.doctor import Machine
from rmeeto.recipe import Recipe, parse_recipe
from rmeeto.reduction import Schedule
from rmeeto.results import Results, Row
from rmeeto.viz import Panel
from rmeeto.viz import Row as Pictures

UNREDUCED, REDUCED = "unreduced", "reduced"
STYLES = {UNREDUCED: "whole", "before training": "free", REDUCED: "free"}
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
        """The rows by name; None for a run that trained a model whole."""
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

    Args:
        results: of :func:`rmeeto.retrain.retrain`.
        command: what to type to do it again.
        machine: where it ran.
        log: records of the run's ``log.jsonl`` (:func:`rmeeto.runlog.read_log`), for the loss curve.
        schedule: the reduced model's, for the chart of tokens per block.
        speed: a benchmark of the same reduction, which then gives the speeds in place of the evaluation's.
        pictures: of merged groups (:func:`rmeeto.viz.merged_groups`), the same blocks for every image.
    """
    recipe = parse_recipe(results.recipe)
    reduced = Reduced.of(results)
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(
        (files("rmeeto") / "templates" / "report.html.j2").read_text(encoding="utf-8")
    )
    speeds = speed_columns(results.rows, recipe.reduction, speed)
    return template.render(
        title=f"{recipe.model}, {recipe.reduction}: rmeeto report",
        kicker=f"{recipe.model} · {recipe.data} · {'trained whole' if reduced is None else recipe.reduction}",
        headline=headline(results, reduced, speeds),
        tiles=tiles(results, reduced, speeds),
        table=table(results.rows, speeds, speed),
        charts=chart_sections(results, reduced, log, schedule),
        gallery=gallery(pictures),
        command=command,
        facts=facts(results, recipe, machine),
        recipe=results.recipe.strip(),
        footer=f"Written by rmeeto {results.versions.get('rmeeto', '')}. Every figure was measured in this run.",
    )


class Speed(NamedTuple):
    """One row's speed. spread: a benchmark's quartiles of the speed-up."""

    images_per_second: float
    speedup: float
    spread: tuple[float, float] | None


def speed_columns(rows: Sequence[Row], reduction: str, speed: BenchReport | None) -> list[Speed]:
    """Speeds by row: the benchmark's at its largest batch, or else the evaluation's own."""
    if speed is None:
        return [Speed(row.images_per_second, row.speedup, None) for row in rows]
    measured = {m.reduction: m for m in largest_setting(speed)}
    chosen = [measured["none" if row.reduction_ratio == 0 else reduction] for row in rows]
    return [Speed(m.images_per_second.median, m.speedup.median, (m.speedup.lower, m.speedup.upper)) for m in chosen]


def largest_setting(speed: BenchReport) -> tuple[Measurement, ...]:
    """The measurements at the largest batch, where kernels count and not the calls around them."""
    return max(speed.settings(), key=lambda setting: setting[0].batch)


def headline(results: Results, reduced: Reduced | None, speeds: Sequence[Speed]) -> str:
    """What came out, in one or two sentences that hold whatever came out."""
    epochs = plural(len(results.epochs), "epoch")
    if reduced is None:
        before, after = results.rows[0], results.rows[-1]
        return f"{epochs} of training took the accuracy from {before.top1_percent:.1f} to {after.top1_percent:.1f} %."
    whole, merged, trained = reduced.whole, reduced.merged, reduced.trained
    return (
        f"{100 * trained.reduction_ratio:.0f} % fewer tokens run {speeds[-1].speedup:.2f}× as fast. "
        f"Accuracy: {whole.top1_percent:.1f} % unreduced, {merged.top1_percent:.1f} % reduced without training, "
        f"{trained.top1_percent:.1f} % after {epochs} of re-training."
    )


def tiles(results: Results, reduced: Reduced | None, speeds: Sequence[Speed]) -> list[Tile]:
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
        Tile("Speed, measured", f"{speeds[-1].speedup:.2f}×", f"FLOPs promise {promise:.2f}×"),
        Tile("Tokens saved", f"{share:.0f} %", f"{first.tokens} → {last.tokens} at the last block"),
        time,
    ]


def table(rows: Sequence[Row], speeds: Sequence[Speed], speed: BenchReport | None) -> dict[str, Any]:
    """The rows of the results, as text."""
    first = rows[0]
    top5 = any(row.top5_percent is not None for row in rows)
    columns = ["", "top-1 %", *(["top-5 %"] if top5 else []), "loss", "FLOPs, exact", "FLOPs, paper’s count"]
    columns += ["tokens at the end", "images/s", "speed-up, measured", "speed-up, by FLOPs"]
    body = []
    for row, pace in zip(rows, speeds, strict=True):
        cells = [f"{row.top1_percent:.1f}"]
        if top5:
            cells.append("" if row.top5_percent is None else f"{row.top5_percent:.1f}")
        cells += [
            f"{row.loss:.3f}",
            operations(row.gflops_exact),
            operations(row.gflops_paper),
            f"{row.tokens}",
            f"{pace.images_per_second:,.0f}",
            f"{pace.speedup:.2f}×",
            f"{first.gflops_exact / row.gflops_exact:.2f}×",
        ]
        body.append({"name": row.name, "style": STYLES.get(row.name, "trained"), "cells": cells})
    return {"columns": columns, "rows": body, "note": table_note(rows, speeds, speed)}


def table_note(rows: Sequence[Row], speeds: Sequence[Speed], speed: BenchReport | None) -> str:
    """What the columns mean and how the speeds were measured."""
    note = f"On {rows[-1].images:,} images that were not trained on. "
    note += "Exact FLOPs count both scan directions; the paper’s count is its own counter’s, one direction. "
    if speed is None:
        return note + "Speeds are those of the evaluation, one model after the other."
    note += f"Speeds are medians of {speed.rounds} rounds or more that take turns between the models, "
    note += f"batch {largest_setting(speed)[0].batch}, {speed.impl} kernels"
    spread = speeds[-1].spread
    return note + (f"; half of the rounds lie between {spread[0]:.2f}× and {spread[1]:.2f}×." if spread else ".")


def chart_sections(
    results: Results, reduced: Reduced | None, log: Log, schedule: Schedule | None
) -> list[dict[str, Any]]:
    """The charts that there is something to draw for."""
    sections = []
    if reduced is not None and schedule is not None:
        whole = Schedule((0,) * len(schedule.counts), schedule.start)
        note = f"{schedule.start} tokens enter, one of them the class token; similar ones merge before some blocks."
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
        note = "Accuracy on the validation images, the first point before any training; loss on the training images, "
        note += "with the recipe’s augmentation and label smoothing, so it does not reach zero."
        sections.append({"title": "Re-training" if reduced else "Training", "note": note, "charts": curves})
    return sections


def gallery(pictures: Sequence[Pictures]) -> dict[str, Any]:
    """The pictures turned on their side: a column per image, a row per stage."""
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


def facts(results: Results, recipe: Recipe, machine: Machine) -> list[tuple[str, str]]:
    """Everything that the figures depend on."""
    versions = ", ".join(f"{name} {number}" for name, number in results.versions.items())
    fingerprint = f"{results.data_fingerprint[:16]}"
    found = [
        ("model", recipe.model),
        ("reduction", recipe.reduction),
        (
            "data",
            f"{recipe.data}: {results.train_images:,} training and {results.val_images:,} validation images of "
            f"{results.classes} classes (fingerprint {fingerprint})",
        ),
        (
            "training",
            f"{plural(len(results.epochs), 'epoch')}, {plural(results.steps, 'step')} of "
            f"{recipe.images_per_step} images, learning rate {recipe.lr:g} → {recipe.min_lr:g}",
        ),
        ("seed", f"{recipe.seed}"),
        (
            "computed in",
            f"{results.precision} on {results.device}, {results.backend} kernels, "
            f"{plural(machine.threads, 'thread')}, {plural(results.processes, 'process', 'processes')}",
        ),
        ("versions", versions),
        ("machine", f"{machine.processor}, {plural(machine.cores, 'core')}; {machine.system}; Python {machine.python}"),
        ("time", duration(results.seconds)),
    ]
    if machine.accelerators:
        found.append(("accelerators", ", ".join(machine.accelerators)))
    if results.skipped_images:
        found.append(("unreadable images", f"{len(results.skipped_images)} left out of training"))
    if results.skipped_steps:
        found.append(("skipped steps", f"{results.skipped_steps}, for a loss that was not finite"))
    return found


def operations(gflops: float) -> str:
    """Operations in the unit that suits them: 3.58 G, 9.71 M."""
    return f"{gflops:.2f} G" if gflops >= 0.1 else f"{1e3 * gflops:.2f} M"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them: 42 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def signed(value: float) -> str:
    """One decimal with its sign: +0.4, −0.2, ±0.0."""
    text = f"{abs(value):.1f}"
    return f"±{text}" if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """``1 epoch``, ``6 epochs``."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
