"""Images and clips as tensors, one by one, and what happens to those that cannot be read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from PIL.Image import DecompressionBombError
from torch import Tensor
from torch.utils.data import Dataset

from rmeeto.data.source import Source
from rmeeto.runtime.randomness import seed_of, seeded

# What Pillow raises for broken files: PNG alone knows four of these.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error, DecompressionBombError)


@dataclass(frozen=True)
class Reading:
    """How a source's item becomes a tensor.

    read: decodes it, and raises one of :data:`UNREADABLE` where that is impossible. transform: makes what was read
    ``(views, c, h, w)``, of a clip ``(views, c, t, h, w)``. Both may draw from the global generators.
    """

    read: Callable[[int], Any]
    transform: Callable[[Any], Tensor]


class Draw(NamedTuple):
    """One item's turn: the epoch and the item's place in the training set."""

    epoch: int
    place: int


class Sample(NamedTuple):
    """views: ``(views, …)``, or None when nothing could be read. unreadable: ``name: reason`` of each failure."""

    views: Tensor | None
    label: int
    unreadable: tuple[str, ...] = ()


class Batch(NamedTuple):
    """images: ``(b · views, c, …)`` of those that could be read, the views of each together.

    labels: ``(b,)`` int64. unreadable: ``name: reason``.
    """

    images: Tensor
    labels: Tensor
    unreadable: tuple[str, ...]

    @property
    def views(self) -> int:
        """Inputs per label."""
        return len(self.images) // max(len(self.labels), 1)


class TrainingSamples(Dataset[Sample]):
    """Augmented images or clips. The randomness of each is its own: a function of seed, epoch and place.

    So every worker and every process reads the same tensor, before and after an interruption. An
    unreadable item is replaced by the next readable one, and named.
    """

    def __init__(self, source: Source, indices: Sequence[int], reading: Reading, seed: int) -> None:
        self.source, self.indices, self.reading, self.seed = source, indices, reading, seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: Draw) -> Sample:
        unreadable: list[str] = []
        for offset in range(len(self)):
            index = self.indices[(draw.place + offset) % len(self)]
            with seeded(seed_of(self.seed, "image", draw.epoch, draw.place)):
                try:
                    content = self.reading.read(index)
                except UNREADABLE as error:
                    unreadable.append(failure(self.source, index, error))
                    continue
                return Sample(self.reading.transform(content), self.source.labels[index], tuple(unreadable))
        return Sample(None, -1, tuple(unreadable))


class EvaluationSamples(Dataset[Sample]):
    """Images or clips as they are; nothing stands in for an unreadable one."""

    def __init__(self, source: Source, indices: Sequence[int], reading: Reading) -> None:
        self.source, self.indices, self.reading = source, indices, reading

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Sample:
        index = self.indices[place]
        try:
            content = self.reading.read(index)
        except UNREADABLE as error:
            return Sample(None, -1, (failure(self.source, index, error),))
        return Sample(self.reading.transform(content), self.source.labels[index])


def collate(samples: Sequence[Sample]) -> Batch:
    """The readable samples as one batch, and the names of the others."""
    images = [sample.views for sample in samples if sample.views is not None]
    labels = [sample.label for sample in samples if sample.views is not None]
    unreadable = tuple(name for sample in samples for name in sample.unreadable)
    return Batch(torch.cat(images) if images else torch.empty(0), torch.tensor(labels), unreadable)


def failure(source: Source, index: int, error: Exception) -> str:
    """``name: reason``."""
    return f"{source.name(index)}: {reason(error)}"


def reason(error: Exception) -> str:
    """An error's text, or its class if it has none."""
    return str(error).strip() or type(error).__name__
