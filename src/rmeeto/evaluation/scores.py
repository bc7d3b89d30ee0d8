"""The rows of a run's table: scores of each evaluation, and speeds measured in turns at the end."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rmeeto.cost import flops
from rmeeto.data import Preparation, Source, evaluation_batches
from rmeeto.errors import RmeetoWarning
from rmeeto.evaluation import Evaluation, Spent, evaluate
from rmeeto.evaluation.results import Row, Score
from rmeeto.models.inference.freezing import frozen
from rmeeto.models.reducible import ReducibleModel
from rmeeto.reduction import Reduction
from rmeeto.runtime.devices import ActualPrecision, autocast
from rmeeto.speed.run import under
from rmeeto.speed.timing import Stopwatch, take_turns

SPEED_ROUNDS = 10
SPEED_SECONDS = 10.0
SPEED_BATCH_ON_CPU = 32
SHORT_SECONDS = 0.02  # of a pass: in a shorter one other programs change the speed visibly
GATE_CLASSES = 10  # with fewer classes, accuracy near chance may still be a weak model's
GATE_DEVIATIONS = 3


def score(name: str, model: ReducibleModel, evaluation: Evaluation) -> Score:
    """A model's accuracy and its cost."""
    spent = evaluation.spent or Spent(
        gflops_exact=flops(model, convention="exact").total / 1e9,
        gflops_paper=flops(model, convention="paper").total / 1e9,
        tokens=model.schedule.tokens[-1],
        reduction_ratio=model.schedule.ratio,
    )
    return Score(
        name=name,
        top1_percent=evaluation.top1_percent,
        top5_percent=evaluation.top5_percent,
        loss=evaluation.loss,
        images=evaluation.images,
        **asdict(spent) | {"tokens": round(spent.tokens, 1)},
    )


def score_each(
    model: ReducibleModel, reductions: Mapping[str, Reduction | None], data: Source, **options: Any
) -> list[Score]:
    """Evaluate a model under each of some reductions, by name, and give it its own back.

    options: as :func:`rmeeto.evaluate` takes them. Raises what that raises.
    """
    own, scores = model.reduction, []
    try:
        for name, reduction in reductions.items():
            model.reduction = reduction
            evaluation = evaluate(model, data, description=f"evaluating {name}", **options)
            scores.append(score(name, model, evaluation))
    finally:
        model.reduction = own
    return scores


def add_speeds(
    scores: Sequence[Score],
    reductions: Sequence[Reduction | None],
    model: ReducibleModel,
    source: Source,
    batch_size: int,
    device: torch.device,
    precision: ActualPrecision,
) -> tuple[Row, ...]:
    """Rows with the speed of the model under each score's reduction.

    Speeds are measured on noise, or on images of the source if the reduction depends on the images. Speed-ups are over
    the first score. Equal reductions share their figures. Each process measures alone.
    """
    batch = min(batch_size, SPEED_BATCH_ON_CPU) if device.type == "cpu" else batch_size
    depends = any(reduction is not None and reduction.varies for reduction in reductions)
    images = (samples(source, model, batch) if depends else noise(model, batch)).to(device)
    with frozen(model), torch.inference_mode(), autocast(device, precision):
        variants = {reduction: under(reduction, model) for reduction in reductions}
        works = [partial(variant.eval(), images) for variant in variants.values()]
        for work in works:
            work()
        stopwatch = Stopwatch(device)
        times = take_turns(works, stopwatch, rounds=SPEED_ROUNDS, budget_seconds=SPEED_SECONDS, tick=lambda: None)
    seconds = dict(zip(variants, times, strict=True))
    whole = seconds[reductions[0]]

    def row(score: Score, reduction: Reduction | None) -> Row:
        taken = seconds[reduction]
        speedup = statistics.median(slow / fast for slow, fast in zip(whole, taken, strict=True))
        return Row(**asdict(score), images_per_second=len(images) / statistics.median(taken), speedup=speedup)

    return tuple(map(row, scores, reductions))


def speeds_are_rough(rows: Sequence[Row], batch_size: int) -> bool:
    """Whether the timed passes were so short that speed-ups may differ by some tenths in another run."""
    batch = min(batch_size, SPEED_BATCH_ON_CPU)
    return any(row.images_per_second * SHORT_SECONDS > batch for row in rows)


def noise(model: ReducibleModel, batch: int) -> Tensor:
    """Inputs that show nothing."""
    return torch.randn(batch, *model.config.input_size)


def samples(source: Source, model: ReducibleModel, batch: int) -> Tensor:
    """A batch of readable evaluation inputs, evenly spaced over the source and so over its classes."""
    apart = max(1, len(source.labels) // batch)
    for first in range(apart):
        with evaluation_batches(
            source, Preparation.of(model), batch_size=batch, workers=0, rank=first, processes=apart
        ) as batches:
            for read in batches:
                if len(read.labels):
                    return read.images
    return noise(model, batch)  # an evaluation would have refused such a source


def warn_at_chance(unreduced: Score, classes: int) -> None:
    """Warn if the unreduced model is no better than chance on this data."""
    chance = 1 / classes
    spread = (chance * (1 - chance) / unreduced.images) ** 0.5
    if classes >= GATE_CLASSES and unreduced.top1_percent / 100 <= chance + GATE_DEVIATIONS * spread:
        warnings.warn(
            f"the unreduced model scores {unreduced.top1_percent:.2f} % on {classes} classes, no better than chance. "
            "Likely causes: the class folders are in another order than in training, the images are normalised "
            "otherwise (mean, std of the model's config), or the head is new and untrained.",
            RmeetoWarning,
            stacklevel=2,
        )
