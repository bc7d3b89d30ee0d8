"""Time some training steps of a model on this machine: those of :func:`rmeeto.training.retrain`, on noise."""

from __future__ import annotations

import itertools
import statistics
import time

import torch

from rmeeto.data import Batch
from rmeeto.errors import ConfigError
from rmeeto.models.reducible import ReducibleModel
from rmeeto.recipe import Recipe
from rmeeto.runtime.devices import find_precision
from rmeeto.runtime.progress import SILENT, Progress
from rmeeto.speed import Throughput
from rmeeto.speed.timing import Clock, Stopwatch, take_turns
from rmeeto.training.building import make_accelerator
from rmeeto.training.conditions import device_name
from rmeeto.training.objective import Objective
from rmeeto.training.step import Stepper

WARM_UP = 2  # steps; the first one allocates memory and AdamW's moments
BATCH_ON_CPU = 8  # a processor is not faster with more, and they need gigabytes


def measure_throughput(
    model: ReducibleModel,
    *,
    batch: int,
    precision: str = "auto",
    rounds: int = 10,
    budget_seconds: float = 60.0,
    clock: Clock = time.perf_counter,
    progress: Progress = SILENT,
) -> Throughput:
    """How many images per second this machine's GPU, or its processor, trains on: the median of some steps.

    model: with its reduction; its weights are changed. batch: images per step; on a processor at most 8.
    rounds: steps that are timed, fewer but at least five if budget_seconds have passed.

    Raises:
        ConfigError: a reduction whose work depends on the images, or an odd batch.
        RunError: the batch does not fit into the device's memory.
    """
    if model.reduction is not None and model.reduction.varies:
        raise ConfigError(
            f"measure {model.reduction} on noise",
            why="the number of tokens that it removes depends on the images",
            fix="re-train for a short time, and plan with the folder of that run",
        )
    recipe = Recipe().changed(precision=precision, batch_size=batch)
    accelerator = make_accelerator(recipe)
    device = accelerator.device
    if device.type == "cpu":
        recipe = recipe.changed(batch_size=min(batch, BATCH_ON_CPU))
    actual = find_precision(recipe.precision, device)
    steps = WARM_UP + rounds
    plan = recipe.batch_plan(recipe.batch_size * steps)
    objective = Objective(recipe, model.num_classes, teacher=None)
    stepper = Stepper(accelerator, model, objective, recipe, plan, actual)
    images = torch.randn(recipe.batch_size, *model.config.input_size)
    batches = itertools.repeat(Batch(images, torch.zeros(recipe.batch_size, dtype=torch.int64), ()))
    numbers = itertools.count()

    def step() -> None:
        stepper.step(next(numbers), batches, interrupted=False)

    with progress.task(f"training steps on {device_name(accelerator)}", steps) as task:
        for _ in range(WARM_UP):
            step()
            task.advance()
        (times,) = take_turns(
            [step], Stopwatch(device, clock), rounds=rounds, budget_seconds=budget_seconds, tick=task.advance
        )
    return Throughput(
        images_per_second=recipe.batch_size / statistics.median(times),
        origin="measured",
        source=f"measured here, {device_name(accelerator)}, {actual}, {recipe.batch_size} images a step, "
        f"median of {len(times)} steps",
        batch=recipe.batch_size,
    )
