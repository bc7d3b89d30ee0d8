"""How the epochs of a training become optimiser steps, and how several processes share each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rmeeto.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """The arithmetic of one training.

    ``batch_size · accumulate`` images make a step, so the result does not depend on how many processes share them;
    each process takes at most ``batch_size`` at a time.

    images: training images. epochs: passes over them. seed: of the order in which they are drawn. pairs: whether
    images are mixed in pairs (mixup, cutmix), so that every forward pass needs an even number of them.

    Raises:
        DataError: fewer images than one step takes. ConfigError: the processes cannot share a step evenly.
    """

    images: int
    epochs: int = 1
    batch_size: int = 128
    accumulate: int = 1
    processes: int = 1
    seed: int = 0
    pairs: bool = False

    def __post_init__(self) -> None:
        step = self.images_per_step
        if self.images < step:
            raise DataError(
                f"train on {self.images} images",
                given=f"batch_size {self.batch_size} × accumulate {self.accumulate} = {step} images per step",
                why="there are too few for one step",
                fix=f"use batch_size={max(2, self.images // 2 * 2)} or less, accumulate=1, or more images",
            )
        if step % self.processes or self.share % self.micro_batches or (self.pairs and self.micro_batch % 2):
            raise ConfigError(
                f"share {step} images per step among {self.processes} processes",
                given=f"batch_size = {self.batch_size}, accumulate = {self.accumulate}",
                why="it does not come out even" + (" (mixup and cutmix need pairs)" if self.pairs else ""),
                fix="choose another batch_size or number of processes",
            )

    @property
    def images_per_step(self) -> int:
        """Images behind every optimiser step, over all processes."""
        return self.batch_size * self.accumulate

    @property
    def share(self) -> int:
        """Images per step of one process."""
        return self.images_per_step // self.processes

    @property
    def micro_batches(self) -> int:
        """Forward passes of one process per step."""
        return math.ceil(self.share / self.batch_size)

    @property
    def micro_batch(self) -> int:
        """Images per forward pass of one process."""
        return self.share // self.micro_batches

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch, all of them whole; the images left over are others in every epoch."""
        return self.images // self.images_per_step

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.steps_per_epoch * self.epochs

    def places(self, rank: int, micro: int) -> tuple[int, ...]:
        """Which images of a step one forward pass of one process takes, by their places in the step, in rising order.

        The step's images are handed out from both ends: the first and the last, then the second and the second last.
        These are the pairs that mixup and cutmix mix, so a pair is never torn apart.
        """
        last, first = self.images_per_step - 1, rank * self.share + micro * self.micro_batch
        turns = range(first, first + self.micro_batch)
        return tuple(sorted(last - turn // 2 if turn % 2 else turn // 2 for turn in turns))

    def __str__(self) -> str:
        return (
            f"{self.images_per_step} images per step = {self.processes} process{'es' * (self.processes > 1)} × "
            f"{self.micro_batches} forward pass{'es' * (self.micro_batches > 1)} × {self.micro_batch}; "
            f"{self.images} images, {self.steps_per_epoch} steps per epoch, {self.total_steps} in all"
        )
