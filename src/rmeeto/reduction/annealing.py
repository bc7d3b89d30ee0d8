"""Annealing: a reduction that grows while a model trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

from rmeeto.errors import ConfigError
from rmeeto.reduction.methods.scheduled import ScheduledReduction
from rmeeto.reduction.protocol import Reduction, Stack

Annealable = TypeVar("Annealable", bound=ScheduledReduction)


def annealed(reduction: Annealable, stack: Stack, progress: float) -> Annealable:
    """The reduction at a moment of training: nothing is removed at the start, all that it removes at the end.

    Every block's count rises along half a cosine, as EViT's share of removed tokens does (Liang et al. 2022). The
    result is a reduction like any other: assign it to the model at every change of progress.

    reduction: what the model will have in the end. stack: of the network (:func:`rmeeto.cost.stack_of`).
    progress: from 0 to 1; at 1 the reduction itself comes back.

    Raises:
        ConfigError: a progress outside of training, or a reduction that the network cannot have.

    >>> annealed(TokenRecognition(r=10), stack_of(model.config), 0.5).schedule(stack_of(model.config)).tokens[-1]
    142
    """
    if not 0 <= progress <= 1:
        raise ConfigError(f"anneal {reduction} to progress={progress}", why="training goes from 0 to 1")
    if progress == 1:
        return reduction
    share = (1 - math.cos(math.pi * progress)) / 2
    counts = reduction.schedule(stack).counts[stack.first :]
    return reduction.with_counts([round(share * count) for count in counts])


@dataclass(frozen=True)
class Annealing:
    """A reduction that grows over the first steps of a training, and is whole afterwards; with 0 steps always.

    steps: over which it grows. stack: of the model that is reduced.

    Raises:
        ConfigError: a reduction that cannot be annealed.
    """

    reduction: Reduction | None
    stack: Stack
    steps: float

    def __post_init__(self) -> None:
        self.at(0)

    def at(self, step: int) -> Reduction | None:
        """What the model trains with in a step."""
        if not self.steps or self.reduction is None:
            return self.reduction
        if not isinstance(self.reduction, ScheduledReduction):
            raise ConfigError(
                f"anneal {self.reduction}",
                why="its counts are the authors' own and have no smaller version",
                fix="use a method of ours, or anneal = 0",
            )
        return annealed(self.reduction, self.stack, min(1.0, step / self.steps))
