"""The demo: merge tokens of a trained digit model, see what it costs, re-train briefly, and write the evidence down.

Everything in it is ordinary machinery: the recipe ``digits``, ``retrain``, ``bench``, ``report``. What is its own is
that it fits into a given time, by measuring first how fast this machine trains.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from rmeeto.bench import BenchReport, bench
from rmeeto.data import Source, open_data
from rmeeto.data.loader import training_batches
from rmeeto.data.transforms import Preparation
from rmeeto.doctor import machine
from rmeeto.errors import ConfigError
from rmeeto.models.backbone import VisionMamba
from rmeeto.models.checkpoint import write_atomically
from rmeeto.models.factory import create_model
from rmeeto.pace import Pace
from rmeeto.progress import SILENT, Progress
from rmeeto.recipe import Recipe, load_recipe
from rmeeto.report import report
from rmeeto.results import Results
from rmeeto.retrain import retrain
from rmeeto.runlog import read_log
from rmeeto.viz import Row as Pictures
from rmeeto.viz import merged_groups, reducing_blocks

MODEL, RECIPE = "vim_digits", "digits"
TRIAL_STEPS, TRIAL_SECONDS = 6, 3.0
BENCH_SHARE, BENCH_MOST_SECONDS, BENCH_BATCHES, BENCH_WARMUP, BENCH_ROUNDS = 0.12, 12.0, (128, 32, 8), 2, 25
BENCH_LEAST_ROUNDS = 5  # what bench insists on
PAGE_SECONDS = 4.0  # pictures, charts, writing
EVALUATION_SHARE = 0.5  # of the time to train on an image: forward alone, but now and then unreduced
MARGIN = 0.85  # of the time left is planned with: the first steps may not be typical


@dataclass(frozen=True)
class DemoResult:
    """What the demo found and where it lies.

    results: accuracy before and after. speed: measured in turns on this machine. report: the HTML page.
    model: folder of the re-trained model. seconds: all in all. shortened: whether there was less time than the
    recipe wants.
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


@dataclass(frozen=True)
class Fit:
    """A recipe that fits into some time, and the seconds it will take. shortened: whether it is less than wanted."""

    recipe: Recipe
    seconds: float
    shortened: bool


def fit(wanted: Recipe, *, step_seconds: float, train_images: int, val_images: int, seconds: float) -> Fit:
    """The longest re-training that fits: fewer epochs than wanted, or one epoch on part of the images.

    At least one step is taken, whatever the time. There are two evaluations before training and one after each epoch.
    """
    batch, steps = wanted.images_per_step, train_images // wanted.images_per_step
    evaluation = EVALUATION_SHARE * step_seconds * val_images / batch
    left = seconds - 2 * evaluation
    epochs = min(wanted.epochs, int(left / (steps * step_seconds + evaluation)))
    share = 1.0
    if epochs < 1:
        epochs, steps = 1, max(1, int((left - evaluation) / step_seconds))
        share = min(1.0, (steps + 0.5) * batch / train_images)  # and half a step, for classes that round down
    recipe = wanted.changed(epochs=epochs, subset=share, warmup_steps=min(wanted.warmup_steps, epochs * steps // 4))
    return Fit(
        recipe,
        seconds=2 * evaluation + epochs * (steps * step_seconds + evaluation),
        shortened=epochs < wanted.epochs or share < 1,
    )


def run_demo(output: Path, *, budget_seconds: float = 120.0, progress: Progress = SILENT) -> DemoResult:
    """Show the whole idea on handwritten digits within some time, and leave ``report.html`` in a folder.

    output: gets the report and a folder ``run`` with the re-trained model, its log and its results. A second demo
    there writes a new report and ``run-2``. budget_seconds: how long all of it may take; the re-training is shortened
    to fit, which is said aloud.

    Raises:
        ConfigError: no time at all. DataError: scikit-learn is not installed. RunError: the folder is in use or full.
    """
    started = time.monotonic()
    if not budget_seconds > 0:
        raise ConfigError(f"run the demo in {budget_seconds:g} s", why="that is no time", fix="--seconds 120")
    wanted = load_recipe(RECIPE, output=str(unused_folder(output)))
    train, val = open_data(wanted.data, "train"), open_data(wanted.data, "val")

    step_seconds = measure_step(wanted, train)
    bench_seconds = min(BENCH_MOST_SECONDS, BENCH_SHARE * budget_seconds)
    left = MARGIN * (budget_seconds - (time.monotonic() - started)) - bench_seconds - PAGE_SECONDS
    plan = fit(
        wanted,
        step_seconds=step_seconds,
        train_images=len(train.labels),
        val_images=len(val.labels),
        seconds=left,
    )
    progress.message(announcement(plan, wanted, step_seconds, budget_seconds))

    results = retrain(plan.recipe, progress=progress)
    model = create_model(plan.recipe.output)
    assert model.reduction is not None
    batch = bench_batch(step_seconds / wanted.images_per_step, bench_seconds)
    speed = bench(
        model,
        [model.reduction],
        name=MODEL,
        batches=(batch,),
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
        log=read_log(Path(plan.recipe.output) / "log.jsonl"),
        schedule=model.schedule,
        speed=speed,
        pictures=pictures(model, val),
    )
    path = output / "report.html"
    write_atomically(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return DemoResult(
        results=results,
        speed=speed,
        report=path,
        model=Path(plan.recipe.output),
        seconds=time.monotonic() - started,
        shortened=plan.shortened,
    )


def unused_folder(output: Path) -> Path:
    """``run``, ``run-2``, … whichever is the first that nobody has used: no run is ever overwritten."""
    names = ("run" if number == 1 else f"run-{number}" for number in count(1))
    return next(output / name for name in names if not (output / name).exists())


def measure_step(recipe: Recipe, source: Source) -> float:
    """Seconds of one training step of the recipe on this machine, reading included; trains a model thrown away."""
    model = create_model(recipe.model, reduction=recipe.reduction).train()
    optimizer = torch.optim.AdamW(model.parameters())
    pace = Pace(recipe, len(source.labels))
    batches = training_batches(source, range(len(source.labels)), Preparation.of(model), pace)
    times: list[float] = []
    before = time.perf_counter()
    for batch in islice(batches, TRIAL_STEPS):
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(batch.images), batch.labels))
        optimizer.step()
        now = time.perf_counter()
        times.append(now - before)
        before = now
        if sum(times) > TRIAL_SECONDS:
            break
    return median(times[1:] or times)  # the first step also warms everything up


def bench_batch(image_seconds: float, seconds: float) -> int:
    """The largest batch whose least number of passes fits; image_seconds: of training on one image."""
    passes = 2 * (BENCH_WARMUP + BENCH_LEAST_ROUNDS)
    fitting = [batch for batch in BENCH_BATCHES if passes * batch * EVALUATION_SHARE * image_seconds <= seconds]
    return max(fitting, default=min(BENCH_BATCHES))


def pictures(model: VisionMamba, source: Source) -> list[Pictures]:
    """The first image of each class, and what its patches had been merged to at each reducing block."""
    chosen = [source.labels.index(label) for label in range(len(source.classes))]
    return merged_groups(model, [source.read(index) for index in chosen], source.classes, reducing_blocks(model))


def announcement(plan: Fit, wanted: Recipe, step_seconds: float, budget_seconds: float) -> str:
    """What will be done in the time, and what is left out for it."""
    found = f"a training step takes {1e3 * step_seconds:.0f} ms here, so re-training takes about {plan.seconds:.0f} s"
    if not plan.shortened:
        return f"{found} for all of its {wanted.epochs} epochs"
    if plan.recipe.subset < 1:
        much = f"one epoch on {100 * plan.recipe.subset:.0f} % of the images"
    else:
        much = f"{plan.recipe.epochs} epoch{'s' if plan.recipe.epochs > 1 else ''}"
    return f"{found} for {much}; {wanted.epochs} epochs would not fit into {budget_seconds:g} s, so expect less of it"
