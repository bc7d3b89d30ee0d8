"""The learning rate of every step: a linear rise, then a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LearningRate:
    """The rate over one training. lr: the highest. min_lr: the last. warmup_steps: of the rise before the cosine."""

    lr: float
    min_lr: float
    warmup_steps: int
    total_steps: int

    def at(self, step: int) -> float:
        """The rate of a step, counted from 0: a linear rise, then a cosine from ``lr`` that ends on ``min_lr``."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / (self.warmup_steps + 1)
        last = max(1, self.total_steps - 1 - self.warmup_steps)
        passed = min(1.0, (step - self.warmup_steps) / last)
        return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * passed)) / 2

    def warning(self) -> str | None:
        """A sentence about a warm-up that never ends; None if it ends."""
        if self.warmup_steps < self.total_steps:
            return None
        return (
            f"warmup_steps = {self.warmup_steps}, but the run has {self.total_steps} steps: the learning rate ends "
            f"on {self.at(self.total_steps - 1):.2g} and never reaches lr = {self.lr:g}, so little or nothing is "
            "learnt; use fewer warmup_steps or more epochs"
        )
