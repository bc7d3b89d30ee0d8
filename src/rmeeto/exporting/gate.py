"""The gate: an exported model must make the model's decisions, or tie with them, and give its logits.

Matching is discontinuous. Two similarities that differ by less than rounding decide one way here and the other way
there, and then all logits differ. So the plans are compared first, with those of the model in float64; logits where the
plans are equal; and where they are not, by how much the other choice is the worse one.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rmeeto.exporting.inputs import Inputs
from rmeeto.exporting.parity import Difference, Row
from rmeeto.exporting.runners import Answer, Array, Runner
from rmeeto.exporting.truth import Truth, in_float64, truths
from rmeeto.models.inference.freezing import freeze
from rmeeto.models.layers.freezing import thaw
from rmeeto.models.reducible import ReducibleModel
from rmeeto.runtime.progress import SILENT, Progress

BUDGET = 5e-5  # of the largest logit: fifty times float32's own error, a tenth of that of float16 weights
TIE = 1e-4  # of the largest similarity
TIMED_RUNS, TIMED_SECONDS = 5, 5.0  # at most
AT_ONCE = 8  # inputs in float64


@dataclass(frozen=True)
class Expected:
    """The float64 answers to all inputs, one by one, and the model's own error and time."""

    inputs: Inputs
    truths: tuple[Truth, ...]
    scale: float
    frozen_logit: float | None
    frozen_ms: float


def expect(model: ReducibleModel, inputs: Inputs, progress: Progress = SILENT) -> Expected:
    """Compute what the gate compares with."""
    exact, right = in_float64(model), list[Truth]()
    with progress.task("computing in float64", len(inputs.names)) as task:
        for some in torch.split(inputs.values, AT_ONCE):
            right += truths(exact, some)
            task.advance(len(some))
    scale = max(float(np.abs(one.logits).max()) for one in right)
    own, frozen_ms = _frozen(model, inputs)
    answers = [own(number) for number in range(len(right))]
    errors = [
        _error(answer, one, scale, 0)
        for answer, one in zip(answers, right, strict=True)
        if first_difference(answer, one, 0) is None
    ]
    return Expected(inputs, tuple(right), scale, max(errors, default=None), frozen_ms)


def _frozen(model: ReducibleModel, inputs: Inputs) -> tuple[Callable[[int], Answer], float]:
    """Answers of the model as `rmeeto.freeze` leaves it, and its time for one input in milliseconds."""
    frozen = freeze(thaw(copy.deepcopy(model)))

    def answer(number: int) -> Answer:
        with torch.inference_mode():
            traced = frozen.trace(inputs.values[number : number + 1])
        blocks = [block for block, count in enumerate(frozen.schedule.counts) if count]
        plans = [plan.assignment().numpy() for plan in traced.blocks[-1].plans]
        return Answer(traced.logits.numpy(), dict(zip(blocks, plans, strict=True)))

    with torch.inference_mode():
        return answer, milliseconds(lambda: frozen(inputs.values[:1]))


def compare(runner: Runner, kind: str, expected: Expected, batch: int, megabytes: float) -> Row:
    """Compare a runtime with float64 on all inputs, ``batch`` at a time."""
    equal, worst, differences = 0, None, []
    for numbers in groups(len(expected.inputs.names), batch):
        answer = runner.answer(expected.inputs.values[numbers].numpy())
        for place, number in enumerate(dict.fromkeys(numbers)):
            one = expected.truths[number]
            difference = first_difference(answer, one, place)
            if difference is not None:
                differences.append(Difference(expected.inputs.names[number], *difference))
                continue
            equal += 1
            worst = max(worst or 0.0, _error(answer, one, expected.scale, place))
    first = expected.inputs.values[[0] * batch].numpy()
    return Row(
        format=kind,
        runtime=runner.runtime,
        precision=runner.precision,
        gated=runner.gated,
        batch=batch,
        inputs=len(expected.inputs.names),
        plans_equal=equal,
        differences=tuple(differences),
        worst_logit=worst,
        budget=BUDGET,
        tie=TIE,
        megabytes=megabytes,
        load_seconds=runner.load_seconds,
        ms_per_input=milliseconds(lambda: runner.logits(first)) / batch,
    )


def first_difference(answer: Answer, one: Truth, place: int) -> tuple[int, float] | None:
    """The first block whose plan of the batch's input number ``place`` differs, and the margin; None if none does."""
    for block, right in one.places.items():
        found = answer.places[block][place]
        if not np.array_equal(found, right):
            return block, one.margin(block, found)
    return None


def _error(answer: Answer, one: Truth, scale: float, place: int) -> float:
    error = np.abs(answer.logits[place].astype(np.float64) - one.logits).max() / max(scale, 1e-30)
    return float(error) if np.isfinite(error) else float("inf")


def groups(count: int, size: int) -> Iterator[list[int]]:
    """The numbers from 0 on, ``size`` at a time; the last is repeated to fill up."""
    for first in range(0, count, size):
        yield [min(number, count - 1) for number in range(first, first + size)]


def milliseconds(run: Callable[[], object]) -> float:
    """The median time of a few calls, of one alone if it takes long, after one that is not counted."""
    run()
    seconds: list[float] = []
    while len(seconds) < TIMED_RUNS and sum(seconds) < TIMED_SECONDS:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


__all__: Sequence[str] = ["BUDGET", "TIE", "Array", "Expected", "compare", "expect"]
