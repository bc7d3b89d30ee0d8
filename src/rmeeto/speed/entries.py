"""What takes part in a run: our model under a reduction, or the rival in an engine, ready for its first pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from rmeeto.errors import RmeetoError, RunError
from rmeeto.models.inference.explanation import explain
from rmeeto.models.reducible import ReducibleModel
from rmeeto.runtime.devices import ActualPrecision, autocast
from rmeeto.speed.crossover import Timing
from rmeeto.speed.engines import Engine, Task, absence
from rmeeto.speed.rival import difference, refuse_another_function

Result = TypeVar("Result")


@dataclass(frozen=True)
class Entry:
    """A variant before it is timed. timing: without times. work: one pass; None if there is nothing to run."""

    timing: Timing
    work: Callable[[], object] | None


def own_entry(name: str, variant: ReducibleModel, images: Tensor, precision: ActualPrecision) -> Entry:
    """Our model, frozen, under its reduction."""
    with torch.inference_mode(), autocast(images.device, precision):
        way = explain(variant, images)
    timing = Timing(
        size=images.shape[-1],
        batch=len(images),
        precision=precision,
        model=name,
        variant=str(variant.reduction or "none"),
        ours=True,
        tokens=variant.schedule.tokens[-1],
        way=way,
    )
    return Entry(timing, partial(_forward, variant, images, precision))


def _forward(variant: ReducibleModel, images: Tensor, precision: ActualPrecision) -> None:
    with torch.inference_mode(), autocast(images.device, precision):
        variant(images)


def rival_entry(name: str, engine: type[Engine], task: Task, truth: Tensor) -> Entry:
    """The rival in an engine that is prepared and checked, or the reason why it cannot be.

    truth: logits of PyTorch in float32.

    Raises:
        RunError: the engine fails, or computes something else.
    """
    timing = Timing(
        size=task.images.shape[-1],
        batch=len(task.images),
        precision=task.precision,
        model=name,
        variant=engine.name,
        ours=False,
    )
    if (why := absence(engine, task.precision)) is not None:
        return Entry(replace(timing, absent=why), None)
    work = _guarded(name, engine.name, _guarded(name, engine.name, partial(engine.prepare, task))())
    found = difference(work(), truth)
    refuse_another_function(name, engine.name, task.precision, found)
    return Entry(replace(timing, difference=found), work)


def _guarded(rival: str, engine: str, work: Callable[[], Result]) -> Callable[[], Result]:
    """The work of a foreign engine; its own exceptions, of whatever class, become a :class:`RunError` with its name."""

    def run() -> Result:
        try:
            return work()
        except RmeetoError:
            raise
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "no message")
            raise RunError(
                f"run {rival} in {engine}",
                why=f"it failed ({type(error).__name__}: {reason[:200]})",
                fix="if memory ran out, leave the size out (--sizes) or take a smaller --batch",
            ) from error

    return run
