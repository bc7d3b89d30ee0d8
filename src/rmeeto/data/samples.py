"""Images as tensors, one by one, and what happens to those that cannot be read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL.Image import DecompressionBombError
from torch import Tensor
from torch.utils.data import Dataset

from rmeeto.data.source import Source
from rmeeto.data.transforms import Transform
from rmeeto.randomness import seed_of, seeded

# What Pillow raises for broken files: PNG alone knows four of these.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error, DecompressionBombError)


class Draw(NamedTuple):
    """One image's turn: the epoch and the image's place in the training set."""

    epoch: int
    place: int


class Sample(NamedTuple):
    """image: ``(c, h, w)``, or None when nothing could be read. unreadable: ``name: reason`` of each failure."""

    image: Tensor | None
    label: int
    unreadable: tuple[str, ...] = ()


class Batch(NamedTuple):
    """images: ``(b, c, h, w)`` of those that could be read; labels: ``(b,)`` int64; unreadable: ``name: reason``."""

    images: Tensor
    labels: Tensor
    unreadable: tuple[str, ...]


class TrainingSamples(Dataset[Sample]):
    """Augmented images. The randomness of each is its own: a function of seed, epoch and place.

    So the same image comes out whoever reads it: any worker, any process, before or after an interruption. An
    unreadable image is replaced by the next readable one, and named.
    """

    def __init__(self, source: Source, indices: Sequence[int], transform: Transform, seed: int) -> None:
        self.source, self.indices, self.transform, self.seed = source, indices, transform, seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: Draw) -> Sample:
        unreadable: list[str] = []
        for offset in range(len(self)):
            index = self.indices[(draw.place + offset) % len(self)]
            try:
                image = self.source.read(index)
            except UNREADABLE as error:
                unreadable.append(_failure(self.source, index, error))
                continue
            with seeded(seed_of(self.seed, "image", draw.epoch, draw.place)):
                return Sample(self.transform(image), self.source.labels[index], tuple(unreadable))
        return Sample(None, -1, tuple(unreadable))


class EvaluationSamples(Dataset[Sample]):
    """Images as they are; nothing stands in for an unreadable one."""

    def __init__(self, source: Source, indices: Sequence[int], transform: Transform) -> None:
        self.source, self.indices, self.transform = source, indices, transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Sample:
        index = self.indices[place]
        try:
            image = self.source.read(index)
        except UNREADABLE as error:
            return Sample(None, -1, (_failure(self.source, index, error),))
        return Sample(self.transform(image), self.source.labels[index])


def collate(samples: Sequence[Sample]) -> Batch:
    """The readable samples as one batch, and the names of the others."""
    images = [sample.image for sample in samples if sample.image is not None]
    labels = [sample.label for sample in samples if sample.image is not None]
    unreadable = tuple(name for sample in samples for name in sample.unreadable)
    return Batch(torch.stack(images) if images else torch.empty(0), torch.tensor(labels), unreadable)


def _failure(source: Source, index: int, error: Exception) -> str:
    return f"{source.name(index)}: {str(error).strip() or type(error).__name__}"
