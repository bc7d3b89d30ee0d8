"""Which frames of a clip a model sees: a random choice in training, fixed ones in evaluation.

Places of frames count from 0, never fall, and repeat where a clip is too short.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random
from typing import Literal

from rmeeto.errors import ConfigError, UnknownName

SamplingName = Literal["sparse", "dense"]


@dataclass(frozen=True)
class Sparse:
    """One frame from each of ``frames`` equal parts of the clip (temporal segment networks, Wang et al. 2016).

    In evaluation the middle of each part; of several choices, number i of n lies at (i + 1) / (n + 1) of each.
    """

    frames: int

    def draw(self, length: int, random: Random) -> tuple[int, ...]:
        """For training, a random place within each part of a clip of ``length`` frames."""
        return tuple(self._place(length, part, random.random()) for part in range(self.frames))

    def segment(self, length: int, number: int, count: int) -> tuple[int, ...]:
        """For evaluation, choice ``number`` of ``count``: the same place within each part."""
        return tuple(self._place(length, part, (number + 1) / (count + 1)) for part in range(self.frames))

    def _place(self, length: int, part: int, within: float) -> int:
        return min(int((part + within) * length / self.frames), length - 1)


@dataclass(frozen=True)
class Dense:
    """``frames`` frames, one every ``stride``: a stretch of the clip at an even pace.

    In evaluation the middle stretch; several are spread evenly from the clip's first frame to its last. The last
    frame is repeated where the clip ends too early.
    """

    frames: int
    stride: int

    def draw(self, length: int, random: Random) -> tuple[int, ...]:
        """For training, from a random first frame of ``length``."""
        return self._stretch(length, random.randint(0, self._latest(length)))

    def segment(self, length: int, number: int, count: int) -> tuple[int, ...]:
        """For evaluation, choice ``number`` of ``count``: from a fixed first frame."""
        share = number / (count - 1) if count > 1 else 0.5
        return self._stretch(length, int(share * self._latest(length)))

    def _latest(self, length: int) -> int:
        """The last possible first frame."""
        return max(length - (self.frames - 1) * self.stride - 1, 0)

    def _stretch(self, length: int, first: int) -> tuple[int, ...]:
        return tuple(min(first + step * self.stride, length - 1) for step in range(self.frames))


Sampling = Sparse | Dense


@dataclass(frozen=True)
class ClipSampling:
    """How a model's frames are chosen from a clip. frame_stride: of dense sampling, in frames.

    Raises:
        UnknownName: no such sampling.
        ConfigError: a number below one.
    """

    sampling: SamplingName = "sparse"
    frame_stride: int = 4

    def __post_init__(self) -> None:
        if self.sampling not in ("sparse", "dense"):
            raise UnknownName("sampling", self.sampling, ("sparse", "dense"))
        numbers = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "sampling"}
        for name, number in numbers.items():
            if number < 1:
                raise ConfigError(f"set {name}", given=str(number), why=f"{name} counts from 1")

    def of(self, frames: int) -> Sampling:
        """The sampling for a model of ``frames`` frames."""
        return Sparse(frames) if self.sampling == "sparse" else Dense(frames, self.frame_stride)


@dataclass(frozen=True)
class Views(ClipSampling):
    """How clips are looked at in an evaluation: ``segments`` times ``crops`` inputs each, whose scores are averaged.

    segments: choices of frames. crops: places along the frames' longer side. Images have one view.
    """

    segments: int = 1
    crops: int = 1

    def __str__(self) -> str:
        return f"{self.segments} × {self.crops} views, {self.sampling} sampling"

    @property
    def count(self) -> int:
        """Inputs per clip."""
        return self.segments * self.crops


ONE_VIEW = Views()
