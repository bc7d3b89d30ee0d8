"""Pace: how a recipe's epochs become optimiser steps on the processes that are there."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rmeeto.errors import ConfigError, DataError
from rmeeto.recipe import Recipe


@dataclass(frozen=True)
class Pace:
    """The arithmetic of one run.

    The recipe fixes the images per step (``batch_size · accumulate``), so the result does not depend on how many
    processes share them; each takes at most ``batch_size`` at a time.

    images: training images. micro_batch: images per forward pass of one process. micro_batches: forward passes
    of one process per step. steps_per_epoch: whole steps; the images left over are others in every epoch.

    Raises:
        DataError: fewer images than one step takes. ConfigError: the processes cannot share a step evenly.
    """

    recipe: Recipe
    images: int
    processes: int = 1

    def __post_init__(self) -> None:
        step, recipe = self.recipe.images_per_step, self.recipe
        if self.images < step:
            raise DataError(
                f"train on {self.images} images",
                given=f"batch_size {recipe.batch_size} × accumulate {recipe.accumulate} = {step} images per step",
                why="there are too few for one step",
                fix=f"use batch_size={max(2, self.images // 2 * 2)} or less, accumulate=1, or more images",
            )
        mixes = recipe.mixup > 0 or recipe.cutmix > 0
        if step % self.processes or self.share % self.micro_batches or (mixes and self.micro_batch % 2):
            raise ConfigError(
                f"share {step} images per step among {self.processes} processes",
                given=f"batch_size = {recipe.batch_size}, accumulate = {recipe.accumulate}",
                why="it does not come out even" + (" (mixup and cutmix need pairs)" if mixes else ""),
                fix="choose another batch_size or number of processes",
            )

    @property
    def share(self) -> int:
        """Images per step of one process."""
        return self.recipe.images_per_step // self.processes

    @property
    def micro_batches(self) -> int:
        """Forward passes of one process per step."""
        return math.ceil(self.share / self.recipe.batch_size)

    @property
    def micro_batch(self) -> int:
        """Images per forward pass of one process."""
        return self.share // self.micro_batches

    def places(self, rank: int, micro: int) -> tuple[int, ...]:
        """Which images of a step one forward pass of one process takes, by their places in the step, in rising order.

        The step's images are handed out from both ends: the first and the last, then the second and the second last.
        These are the pairs that mixup and cutmix mix, so a pair is never torn apart.
        """
        last, first = self.recipe.images_per_step - 1, rank * self.share + micro * self.micro_batch
        turns = range(first, first + self.micro_batch)
        return tuple(sorted(last - turn // 2 if turn % 2 else turn // 2 for turn in turns))

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch."""
        return self.images // self.recipe.images_per_step

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.steps_per_epoch * self.recipe.epochs

    def learning_rate(self, step: int) -> float:
        """The rate of a step, counted from 0: a linear rise, then a cosine from ``lr`` that ends on ``min_lr``."""
        recipe = self.recipe
        if step < recipe.warmup_steps:
            return recipe.lr * (step + 1) / (recipe.warmup_steps + 1)
        last = max(1, self.total_steps - 1 - recipe.warmup_steps)
        passed = min(1.0, (step - recipe.warmup_steps) / last)
        return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * passed)) / 2

    def warning(self) -> str | None:
        """What is wrong with a warm-up that never ends; None where it ends."""
        recipe, last = self.recipe, self.total_steps - 1
        if recipe.warmup_steps < self.total_steps:
            return None
        return (
            f"warmup_steps = {recipe.warmup_steps}, but the run has {self.total_steps} steps: the learning rate ends "
            f"on {self.learning_rate(last):.2g} and never reaches lr = {recipe.lr:g}, so little or nothing is learnt; "
            "use fewer warmup_steps or more epochs"
        )

    def __str__(self) -> str:
        recipe = self.recipe
        return (
            f"{recipe.images_per_step} images per step = {self.processes} process{'es' * (self.processes > 1)} × "
            f"{self.micro_batches} forward pass{'es' * (self.micro_batches > 1)} × {self.micro_batch}; "
            f"{self.images} images, {self.steps_per_epoch} steps per epoch, {self.total_steps} in all"
        )
