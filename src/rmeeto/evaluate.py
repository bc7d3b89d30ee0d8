"""Evaluate a model on labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rmeeto.data import Source
from rmeeto.models.backbone import VisionMamba
from rmeeto.progress import SILENT, Progress


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and speed over a set of images.

    top1_percent, top5_percent: of ``images``; top 5 is None below six classes. loss: mean cross-entropy.
    images: how many were evaluated. skipped: names of unreadable ones, left out only when that was allowed.
    images_per_second: of the model alone (median over full batches, the first left out); seconds: all together.
    """

    top1_percent: float
    top5_percent: float | None
    loss: float
    images: int
    skipped: tuple[str, ...]
    images_per_second: float
    seconds: float


def evaluate(
    model: VisionMamba,
    data: str | Path | Source,
    *,
    batch_size: int = 128,
    device: str = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
    workers: int = 2,
    allow_missing: bool = False,
    progress: Progress = SILENT,
) -> Evaluation:
    """Run the model over the validation images of ``data`` and score it."""
    raise NotImplementedError
