"""Timing in turns: variants alternate, and ratios are of times from the same round, so noise favours none."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from rmeeto.models.reducible import ReducibleModel
from rmeeto.reduction.protocol import Reduction, Step
from rmeeto.reduction.tokens import Features, Tokens
from rmeeto.runtime.devices import synchronize

Clock = Callable[[], float]

FEWEST_ROUNDS = 5  # however slow the model is
SHARE_ROUNDS = 3


class Stopwatch:
    """Times work on a device, from an idle device to an idle device. clock: seconds that only grow."""

    def __init__(self, device: torch.device, clock: Clock = time.perf_counter) -> None:
        self.device, self.clock = device, clock

    def seconds(self, work: Callable[[], object]) -> float:
        """How long ``work()`` takes."""
        synchronize(self.device)
        start = self.clock()
        work()
        synchronize(self.device)
        return self.clock() - start


def take_turns(
    works: Sequence[Callable[[], object]],
    stopwatch: Stopwatch,
    *,
    rounds: int,
    budget_seconds: float,
    tick: Callable[[], None],
) -> list[list[float]]:
    """Seconds of each work in each round: A B C, then C B A, and so on, so that a drifting machine favours none.

    Stops early, but not before five rounds, when the budget is spent. tick: called after each single timing.
    """
    times: list[list[float]] = [[] for _ in works]
    end = stopwatch.clock() + budget_seconds
    for done in range(max(rounds, FEWEST_ROUNDS)):
        if done >= FEWEST_ROUNDS and stopwatch.clock() >= end:
            break
        for number in range(len(works)) if done % 2 == 0 else reversed(range(len(works))):
            times[number].append(stopwatch.seconds(works[number]))
            tick()
    return times


class TimedReduction:
    """A reduction that adds up the seconds its steps take; all else is the wrapped one's."""

    def __init__(self, reduction: Reduction, stopwatch: Stopwatch) -> None:
        self.reduction, self.stopwatch, self.seconds = reduction, stopwatch, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reduction, name)

    def step(self, tokens: Tokens, features: Features | None, step: Step) -> Tokens:
        """The wrapped one's, timed."""
        result = tokens

        def work() -> None:
            nonlocal result
            result = self.reduction.step(tokens, features, step)

        self.seconds += self.stopwatch.seconds(work)
        return result


def reduction_share(model: ReducibleModel, images: Tensor, stopwatch: Stopwatch) -> float:
    """The share of a forward pass that the reduction takes: median of a few passes, timers included in both times."""
    if model.reduction is None:
        return 0.0
    spent: list[float] = []
    totals = [
        stopwatch.seconds(lambda: spent.append(reduction_seconds(model, images, stopwatch)))
        for _ in range(SHARE_ROUNDS)
    ]
    return statistics.median(part / total for part, total in zip(spent, totals, strict=True))


def reduction_seconds(model: ReducibleModel, images: Tensor, stopwatch: Stopwatch) -> float:
    """Seconds that the reduction takes in one ordinary forward pass."""
    executor = getattr(model, "executor", None)
    inside: float | None = None if executor is None else executor.reduction_seconds(model, images)
    if inside is not None:
        return inside
    reduction = model.reduction
    assert reduction is not None
    timed = TimedReduction(reduction, stopwatch)
    model.reduction = cast(Reduction, timed)
    try:
        model(images)
    finally:
        model.reduction = reduction
    return timed.seconds
