"""The demo: merge tokens of a trained digit model, measure the loss, re-train briefly, and write a report.

It uses the recipe ``digits``, ``retrain``, ``bench`` and ``report``. To fit into a given time, it first measures how
fast this machine trains.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, cast

from rmeeto.data import ImageSource, Source, open_data
from rmeeto.demo.plan import BENCH_WARMUP, announcement, bench_batch, fit, measure_step
from rmeeto.errors import ConfigError
from rmeeto.evaluation.results import Results
from rmeeto.files.durable import write_text
from rmeeto.models.factory import create_model
from rmeeto.models.reducible import ReducibleModel
from rmeeto.recipe import load_recipe
from rmeeto.report import report, timed
from rmeeto.runtime.doctor import machine
from rmeeto.runtime.progress import SILENT, Progress
from rmeeto.speed import BenchReport, bench
from rmeeto.training import retrain
from rmeeto.training.runlog import read_log
from rmeeto.viz import Row as Pictures
from rmeeto.viz import merged_groups, reducing_blocks

RECIPE = "digits"
BENCH_SHARE, BENCH_MOST_SECONDS, BENCH_ROUNDS = 0.1, 10.0, 25
PAGE_SECONDS = 4.0  # pictures, charts, writing
MARGIN = 0.85  # of the time left is planned with: the first steps may not be typical


@dataclass(frozen=True)
class DemoResult:
    """The demo's results and where they are stored.

    results: accuracy and cost before and after, with the speeds of the benchmark. speed: that benchmark.
    report: the HTML page. model: folder of the re-trained model. seconds: in total.
    shortened: whether there was less time than the recipe wants.
    """

    results: Results
    speed: BenchReport
    report: Path
    model: Path
    seconds: float
    shortened: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "results": self.results.to_dict(),
            "speed": self.speed.to_dict(),
            "report": str(self.report),
            "model": str(self.model),
            "seconds": self.seconds,
            "shortened": self.shortened,
        }


def run_demo(output: Path, *, budget_seconds: float = 120.0, progress: Progress = SILENT) -> DemoResult:
    """Show the whole idea on handwritten digits within some time, and leave ``report.html`` in a folder.

    output: gets the report and a folder ``run`` with the re-trained model, its log and its results. A second demo
    there writes a new report and ``run-2``. budget_seconds: how long all of it may take; the re-training is shortened
    to fit, and a message says so.

    Raises:
        ConfigError: the time is not above 0. DataError: scikit-learn is not installed. RunError: the folder is in use
        or full.
    """
    started = time.monotonic()
    if not budget_seconds > 0:
        raise ConfigError(f"run the demo in {budget_seconds:g} s", why="that is no time", fix="--seconds 120")
    full = load_recipe(RECIPE, output=str(unused_folder(output)))
    train, val = open_data(full.data, "train"), open_data(full.data, "val")

    step_seconds = measure_step(full, train, progress)
    bench_seconds = min(BENCH_MOST_SECONDS, BENCH_SHARE * budget_seconds)
    left = MARGIN * (budget_seconds - (time.monotonic() - started)) - bench_seconds - PAGE_SECONDS
    plan = fit(
        full,
        step_seconds=step_seconds,
        train_images=len(train.labels),
        val_images=len(val.labels),
        seconds=left,
    )
    progress.message(announcement(plan, full, step_seconds, budget_seconds))

    results = retrain(plan.recipe, progress=progress)
    run = Path(plan.recipe.output)
    model = create_model(str(run))
    assert model.reduction is not None
    speed = bench(
        model,
        [model.reduction],
        name=full.model,
        batches=(bench_batch(step_seconds / full.images_per_step, bench_seconds),),
        warmup=BENCH_WARMUP,
        rounds=BENCH_ROUNDS,
        budget_seconds=bench_seconds,
        memory=False,
        progress=progress,
    )
    page = report(
        results,
        command=f"rmeeto demo --seconds {budget_seconds:g}",
        machine=machine(),
        log=read_log(run / "log.jsonl"),
        schedule=model.schedule,
        speed=speed,
        pictures=pictures(model, val),
    )
    path = output / "report.html"
    write_text(path, page)
    return DemoResult(
        results=timed(results, str(model.reduction), speed),
        speed=speed,
        report=path,
        model=run,
        seconds=time.monotonic() - started,
        shortened=plan.shortened,
    )


def unused_folder(output: Path) -> Path:
    """The first unused of ``run``, ``run-2``, …, so that no run is overwritten."""
    names = ("run" if number == 1 else f"run-{number}" for number in count(1))
    return next(output / name for name in names if not (output / name).exists())


def pictures(model: ReducibleModel, source: Source) -> list[Pictures]:
    """The first image of each class, and its groups of merged patches at each reducing block."""
    chosen = [source.labels.index(label) for label in range(len(source.classes))]
    read = cast(ImageSource, source).read
    return merged_groups(model, [read(index) for index in chosen], source.classes, reducing_blocks(model))
