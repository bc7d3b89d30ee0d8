"""How many epochs and images of a re-training fit into a given time on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from statistics import median

import torch
import torch.nn.functional as F

from rmeeto.data import Preparation, Source, training_batches
from rmeeto.models.factory import create_model
from rmeeto.recipe import Recipe
from rmeeto.runtime.progress import SILENT, Progress

TRIAL_STEPS, TRIAL_SECONDS = 6, 3.0
# Shares of the time to train on an image: a forward pass; an evaluation, which reads images and is partly unreduced.
FORWARD_SHARE, EVALUATION_SHARE = 0.25, 0.5
BENCH_BATCHES, BENCH_WARMUP, BENCH_LEAST_ROUNDS = (512, 128, 32, 8), 2, 5


@dataclass(frozen=True)
class Fit:
    """A recipe that fits into some time, and the seconds it will take. shortened: whether it is not the full one."""

    recipe: Recipe
    seconds: float
    shortened: bool


def fit(full: Recipe, *, step_seconds: float, train_images: int, val_images: int, seconds: float) -> Fit:
    """The longest re-training that fits: fewer epochs than the full recipe has, or one epoch on part of the images.

    At least one step is taken, even without time. There are two evaluations before training and one after each epoch.
    """
    batch, steps = full.images_per_step, train_images // full.images_per_step
    evaluation = EVALUATION_SHARE * step_seconds * val_images / batch
    left = seconds - 2 * evaluation
    epochs = min(full.epochs, int(left / (steps * step_seconds + evaluation)))
    share = 1.0
    if epochs < 1:
        epochs, steps = 1, max(1, int((left - evaluation) / step_seconds))
        share = min(1.0, (steps + 0.5) * batch / train_images)  # and half a step, for classes that round down
    recipe = full.changed(epochs=epochs, subset=share, warmup_steps=min(full.warmup_steps, epochs * steps // 4))
    return Fit(
        recipe,
        seconds=2 * evaluation + epochs * (steps * step_seconds + evaluation),
        shortened=epochs < full.epochs or share < 1,
    )


def measure_step(recipe: Recipe, source: Source, progress: Progress = SILENT) -> float:
    """Seconds of one training step of the recipe on this machine, reading included; the trained model is discarded."""
    model = create_model(recipe.model, reduction=recipe.reduction).train()
    optimizer = torch.optim.AdamW(model.parameters())
    batches = training_batches(
        source,
        range(len(source.labels)),
        Preparation.of(model),
        recipe.batch_plan(len(source.labels)),
        augmentation=recipe.augmentation,
        workers=recipe.workers,
    )
    times: list[float] = []
    before = time.perf_counter()
    with batches, progress.task("measuring this machine", TRIAL_STEPS) as task:
        for batch in islice(batches, TRIAL_STEPS):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(batch.images), batch.labels))
            optimizer.step()
            now = time.perf_counter()
            times.append(now - before)
            before = now
            task.advance()
            if sum(times) > TRIAL_SECONDS:
                break
    return median(times[1:] or times)  # the first step also warms everything up


def bench_batch(image_seconds: float, seconds: float) -> int:
    """The largest batch whose least number of passes fits; image_seconds: of training on one image."""
    passes = 2 * (BENCH_WARMUP + BENCH_LEAST_ROUNDS)
    fitting = [batch for batch in BENCH_BATCHES if passes * batch * FORWARD_SHARE * image_seconds <= seconds]
    return max(fitting, default=min(BENCH_BATCHES))


def announcement(plan: Fit, full: Recipe, step_seconds: float, budget_seconds: float) -> str:
    """A sentence about what the time allows, and what is left out."""
    start = f"a training step takes {1e3 * step_seconds:.0f} ms here, so re-training takes about {plan.seconds:.0f} s"
    if not plan.shortened:
        return f"{start} for all of its {full.epochs} epochs"
    if plan.recipe.subset < 1:
        much = f"one epoch on {100 * plan.recipe.subset:.0f} % of the images"
    else:
        much = f"{plan.recipe.epochs} epoch{'s' if plan.recipe.epochs > 1 else ''}"
    return f"{start} for {much}; {full.epochs} epochs would not fit into {budget_seconds:g} s, so expect less of it"
