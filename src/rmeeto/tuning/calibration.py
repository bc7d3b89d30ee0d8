"""Calibration: how far a reduction moves a model's answers on a few images. No labels are read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rmeeto.data import Preparation, Source, evaluation_batches
from rmeeto.errors import DataError, RunError
from rmeeto.models.reducible import ReducibleModel
from rmeeto.reduction import Reduction
from rmeeto.runtime.devices import ActualPrecision, autocast
from rmeeto.runtime.progress import Progress

RANDOM_REDUCTIONS_SEED = 0  # a reduction with random choices moves the answers equally every time


@dataclass
class Calibration:
    """Images in memory, and what the unreduced model answers.

    batches: each ``(b, c, …)``. answers: its log-probabilities, each ``(b, classes)``.
    """

    model: ReducibleModel
    batches: list[Tensor]
    answers: list[Tensor]
    precision: ActualPrecision

    @classmethod
    def of(
        cls,
        model: ReducibleModel,
        source: Source,
        images: int,
        *,
        part: int,
        parts: int,
        batch_size: int,
        workers: int,
        device: torch.device,
        precision: ActualPrecision,
        progress: Progress,
    ) -> Calibration:
        """Read about ``images`` images, evenly spaced over the source and so over its classes.

        part, parts: different parts of a source have no image in common.

        Raises:
            DataError: no image can be read, or the model takes inputs of another kind.
        """
        apart = max(
            parts, math.ceil(len(source.labels) / images)
        )  # every such image is read, as by one of that many processes
        batches: list[Tensor] = []
        unreadable: list[str] = []
        reading = evaluation_batches(
            source, Preparation.of(model), batch_size=batch_size, workers=workers, rank=part, processes=apart
        )
        total = len(range(part, len(source.labels), apart))
        with reading, progress.task("reading calibration images", total) as task:
            for batch in reading:
                unreadable += batch.unreadable
                if len(batch.labels):
                    batches.append(batch.images.to(device))
                task.advance(len(batch.labels) + len(batch.unreadable))
        if not batches:
            raise DataError(
                f"calibrate on {source.address}",
                given=unreadable[0] if unreadable else None,
                why="none of the chosen images can be read",
                fix="check that the files are complete images",
            )
        if unreadable:
            progress.message(f"{len(unreadable)} unreadable images left out of the calibration: {unreadable[0]} …")
        calibration = cls(model, batches, [], precision)
        calibration.answers = calibration.log_probabilities(None)
        return calibration

    @property
    def images(self) -> int:
        """Images in all."""
        return sum(map(len, self.batches))

    def divergence(self, reduction: Reduction | None) -> float:
        """Mean over the images of KL(unreduced ‖ reduced), in nats.

        Raises:
            RunError: it is not finite.
        """
        total = 0.0
        for whole, reduced in zip(self.answers, self.log_probabilities(reduction), strict=True):
            total += F.kl_div(reduced, whole, log_target=True, reduction="sum").item()
        if not math.isfinite(total):
            raise RunError(
                f"compare {reduction} with the unreduced model",
                why="the logits are not finite",
                fix="the weights are damaged, or too large for this precision: try float32",
            )
        return total / self.images

    @torch.no_grad()
    def log_probabilities(self, reduction: Reduction | None) -> list[Tensor]:
        """The model's answers under a reduction, in float32."""
        device, before = self.batches[0].device, self.model.reduction
        self.model.reduction = reduction
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []), autocast(device, self.precision):
                torch.manual_seed(RANDOM_REDUCTIONS_SEED)
                return [self.model(images).float().log_softmax(-1) for images in self.batches]
        finally:
            self.model.reduction = before
