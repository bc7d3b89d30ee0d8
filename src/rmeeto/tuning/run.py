"""tune: search on some training images, choose on others, score on the validation images.

Why choose on other images: a long search overfits to the few hundred images that it sees.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rmeeto.cost import stack_of
from rmeeto.data import check_classes, open_data
from rmeeto.errors import ConfigError
from rmeeto.evaluation.results import Score
from rmeeto.evaluation.scores import score_each
from rmeeto.files.durable import write_text
from rmeeto.files.jsontext import to_json
from rmeeto.models.inference.freezing import frozen
from rmeeto.models.reducible import ReducibleModel
from rmeeto.reduction import Reduction, Schedule, parse_reduction
from rmeeto.reduction.methods.scheduled import ScheduledReduction
from rmeeto.reduction.protocol import Stack
from rmeeto.runtime.devices import find_device, find_precision
from rmeeto.runtime.progress import SILENT, Progress
from rmeeto.tuning.calibration import Calibration
from rmeeto.tuning.search import Counts, search

SLOPES = (-1.0, -0.5, 0.0, 0.5, 1.0)


@dataclass(frozen=True)
class TuneResult:
    """A tuned schedule beside the one that was asked for, at no higher cost.

    reduction: the tuned one's line. given: the line that set the budget. scores: on validation images, unreduced,
    given and tuned. divergence, given_divergence: mean KL from the unreduced model's answers, in nats, on the images
    that the choice was made by. images: searched on. evaluations: schedules that were tried. seconds: in total.
    """

    reduction: str
    given: str
    scores: tuple[Score, Score, Score]
    divergence: float
    given_divergence: float
    tokens: tuple[int, ...]
    images: int
    evaluations: int
    seed: int
    seconds: float

    @property
    def gain_points(self) -> float:
        """Top-1 accuracy over the given schedule's, in points."""
        _, given, tuned = self.scores
        return tuned.top1_percent - given.top1_percent

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dicts; ``reduction`` is what ``@FILE`` reads."""
        return {**asdict(self), "gain_points": self.gain_points}

    def save(self, path: str | Path) -> None:
        """Write JSON that ``--reduce @FILE`` and ``parse_reduction("@FILE")`` read."""
        write_text(Path(path), to_json(self.to_dict(), indent=2) + "\n")


def tune(
    model: ReducibleModel,
    data: str | Path,
    reduction: Reduction | str,
    *,
    images: int = 512,
    evaluations: int = 150,
    seed: int = 0,
    batch_size: int = 64,
    device: str = "auto",
    precision: str = "float32",
    workers: int = 2,
    progress: Progress = SILENT,
) -> TuneResult:
    """Search counts for every block that cost no more than ``reduction`` and change the model's answers less.

    The search sees about ``images`` training images and no label. It records every improvement, the given
    schedule included; of these the best on equally many other training images is taken. Accuracy is measured on
    the validation images, which neither sees. The model keeps its weights and its own reduction.

    model: with its trained weights. data: what :func:`rmeeto.data.open_data` opens. reduction: the method and its
    budget, such as ``"merge:gflops=3.6,features=C"``; its own schedule is where the search begins and what the result
    is compared with. images: to search on, and as many again to choose by, at most half of the training images each.
    evaluations: schedules to try at most, each a forward pass over those images. seed: decides the order in which
    exchanges are tried. batch_size: images at a time. device: auto, cpu, cuda …. precision: float32, bfloat16
    (autocast) or auto. workers: processes that read images. progress: what receives messages.

    Raises:
        ConfigError: a method without a schedule of its own, a budget out of reach, or no images or evaluations.
        DataError: data that cannot be opened or does not fit the model.

    >>> tune(model, "digits", "merge:ratio=0.3").reduction
    'merge:r=0*2+6+4+9+12+20,blocks=all'
    """
    started = time.perf_counter()
    method = parse_reduction(reduction) if isinstance(reduction, str) else reduction
    if not isinstance(method, ScheduledReduction):
        raise ConfigError(
            f"tune the schedule of {method or 'no reduction'}",
            why="only methods that take a count for each block can be tuned",
            fix="for instance merge:ratio=0.3",
        )
    if method.varies:
        raise ConfigError(
            f"tune the schedule of {method}",
            why="its counts are upper bounds, and schedules are compared by what they really remove",
            fix="tune the method without a threshold, for instance merge:ratio=0.3",
        )
    if images < 1 or evaluations < 1:
        raise ConfigError(
            "tune a schedule", given=f"images={images}, evaluations={evaluations}", why="both count from 1"
        )
    problem = Problem(method, stack_of(model.config))
    method.schedule(problem.stack)  # or refuse the budget now
    torch_device = find_device(device)
    actual_precision = find_precision(precision, torch_device)
    training, validation = open_data(data, "train"), open_data(data, "val")
    check_classes(training, model.num_classes)
    with frozen(model.to(torch_device)):
        calibration, control = (
            Calibration.of(
                model,
                training,
                images,
                part=part,
                parts=2,
                batch_size=batch_size,
                workers=workers,
                device=torch_device,
                precision=actual_precision,
                progress=progress,
            )
            for part in range(2)
        )
        with progress.task("searching", evaluations) as task:

            def objective(counts: Counts) -> float:
                divergence = calibration.divergence(problem.reduction(counts))
                task.advance(divergence=divergence)
                return divergence

            searched = search(
                problem.starts(), objective, problem.cost, problem.limit, evaluations=evaluations, seed=seed
            )
        divergences = {counts: control.divergence(problem.reduction(counts)) for counts in searched.path}
        tuned = problem.reduction(min(divergences, key=divergences.__getitem__))
        unreduced, given, best = score_each(
            model,
            {"unreduced": None, "given": method, "tuned": tuned},
            validation,
            batch_size=batch_size,
            device=torch_device,
            precision=precision,
            workers=workers,
            progress=progress,
        )
    return TuneResult(
        reduction=str(tuned),
        given=str(method),
        scores=(unreduced, given, best),
        divergence=min(divergences.values()),
        given_divergence=divergences[searched.path[0]],
        tokens=tuned.schedule(problem.stack).tokens,
        images=calibration.images,
        evaluations=searched.evaluations,
        seed=seed,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class Problem:
    """Schedules of one method as lists of counts, one for every block that can reduce, with their cost."""

    method: Any  # a ScheduledReduction that is a Reduction
    stack: Stack

    @property
    def limit(self) -> float:
        """Exact operations per image that the method's own schedule costs."""
        return self.stack.exact_operations(self.method, self.method.schedule(self.stack))

    def reduction(self, counts: Counts) -> Any:
        """The method with these counts."""
        return self.method.with_counts(counts)

    def cost(self, counts: Counts) -> float:
        """Exact operations per image; infinite if a block has too few tokens for its count."""
        reduction = self.reduction(counts)
        try:
            return self.stack.exact_operations(reduction, reduction.schedule(self.stack))
        except ConfigError:
            return math.inf

    def starts(self) -> list[Counts]:
        """The method's own schedule, then falling and rising ones at the same cost, on its blocks and on all."""
        schedules: list[Schedule] = [self.method.schedule(self.stack)]
        amounts = {"r": None, "ratio": None, "fewer": None, "gflops": self.limit / 1e9}
        for blocks in dict.fromkeys([self.method.blocks, "all"]):
            for slope in SLOPES:
                with suppress(ConfigError):  # some shapes cannot reach the cost
                    schedules.append(replace(self.method, **amounts, slope=slope, blocks=blocks).schedule(self.stack))
        return list(dict.fromkeys(schedule.counts[self.stack.first :] for schedule in schedules))
