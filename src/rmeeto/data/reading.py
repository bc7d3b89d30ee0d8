"""What is read and how it is prepared: images for models of images, clips for models of clips."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from PIL.Image import Image
from torch import Tensor

from rmeeto.data.clip_transforms import CropsOverFrames, clip_training_transform
from rmeeto.data.folder import ClipFiles, FolderSource
from rmeeto.data.media import CLIPS
from rmeeto.data.samples import Reading
from rmeeto.data.sampling import ONE_VIEW, ClipSampling, Sampling, Views
from rmeeto.data.source import ImageSource, Source
from rmeeto.data.transforms import Augmentation, Preparation, Transform, evaluation_transform, training_transform
from rmeeto.data.video import Frames
from rmeeto.errors import ConfigError, DataError


def training_reading(
    source: Source, preparation: Preparation, augmentation: Augmentation, clips: ClipSampling
) -> Reading:
    """Random frames, augmented.

    Raises:
        DataError: clips for a model of images, or the other way round.
        ConfigError: the augmentation is impossible.
    """
    _check_kind(source, preparation)
    if isinstance(source, ClipFiles):
        frames = clips.of(preparation.frames)
        return Reading(RandomFrames(source, frames), clip_training_transform(preparation, augmentation))
    transform = training_transform(preparation, augmentation, glyphs=source.glyphs)
    return Reading(cast(ImageSource, source).read, OneView(transform))


def evaluation_reading(source: Source, preparation: Preparation, views: Views) -> Reading:
    """Fixed frames and crops.

    Raises:
        DataError: clips for a model of images, or the other way round.
        ConfigError: several views of images.
    """
    _check_kind(source, preparation)
    if isinstance(source, ClipFiles):
        frames = views.of(preparation.frames)
        return Reading(SpreadFrames(source, frames, views.segments), CropsOverFrames(preparation, views.crops))
    if views.count > 1:
        raise ConfigError(
            f"evaluate with {views}",
            given=f"the images of {source.address}",
            why="only clips have several views",
            fix="leave segments and crops at 1",
        )
    transform = evaluation_transform(preparation, glyphs=source.glyphs)
    return Reading(cast(ImageSource, source).read, OneView(transform))


def file_reading(paths: Sequence[str | Path], preparation: Preparation) -> Reading:
    """Files without labels, by their number, in one view: images or clips, whichever the model takes."""
    files = ClipFiles if preparation.kind is CLIPS else FolderSource
    source = files("files", "val", classes=(), labels=(0,) * len(paths), paths=tuple(map(str, paths)))
    return evaluation_reading(source, preparation, ONE_VIEW)


@dataclass(frozen=True)
class OneView:
    """An image's tensor as its only view: ``(1, c, h, w)``."""

    transform: Transform

    def __call__(self, image: Image) -> Tensor:
        """Prepare the image."""
        return self.transform(image)[None]


@dataclass(frozen=True)
class RandomFrames:
    """Read a clip's frames at random places."""

    source: ClipFiles
    sampling: Sampling

    def __call__(self, index: int) -> Frames:
        """Decode them. The places depend on the global generator's state now, not on when the clip is open."""
        draws = random.Random(random.getrandbits(62))
        return self.source.read(index, partial(self.sampling.draw, random=draws))


@dataclass(frozen=True)
class SpreadFrames:
    """Read a clip's frames at fixed places, for each of some segments."""

    source: ClipFiles
    sampling: Sampling
    segments: int

    def __call__(self, index: int) -> tuple[Frames, ...]:
        """Decode them all at once, each frame once."""
        frames = self.source.read(index, self._places)
        each = len(frames) // self.segments
        return tuple(frames[start : start + each] for start in range(0, len(frames), each))

    def _places(self, length: int) -> list[int]:
        segments = range(self.segments)
        return [place for number in segments for place in self.sampling.segment(length, number, self.segments)]


def _check_kind(source: Source, preparation: Preparation) -> None:
    clips, wants_clips = isinstance(source, ClipFiles), preparation.kind is CLIPS
    if clips == wants_clips:
        return
    takes = f"clips of {preparation.frames} frames" if wants_clips else "images"
    raise DataError(
        f"use {source.address} with this model",
        given=f"{len(source.labels)} {'clips' if clips else 'images'}, a model of {takes}",
        why="a model of images sees no motion, and a model of clips needs frames",
        fix="take a video model for clips, such as videomamba_tiny with frames=8, and an image model for images",
    )
