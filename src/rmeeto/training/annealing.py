"""The reduction of every training step: it can grow from nothing to its full value, as EViT's does."""

from __future__ import annotations

from dataclasses import dataclass

from rmeeto.errors import ConfigError
from rmeeto.reduction import Reduction, annealed
from rmeeto.reduction.methods.scheduled import ScheduledReduction
from rmeeto.reduction.protocol import Stack


@dataclass(frozen=True)
class Annealing:
    """Less than the whole reduction for so many steps, then all of it; 0 steps anneal nothing.

    stack: of the model that is reduced.

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
