"""Cells of ``pictures``: small images, and which of their patches a model merged (Figs. 4 and 5)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rmeeto.data import Preparation, Source
from rmeeto.errors import ConfigError
from rmeeto.experiments.inputs import inputs
from rmeeto.experiments.scale import Drawing
from rmeeto.models.reducible import ReducibleModel
from rmeeto.runtime.randomness import seeded
from rmeeto.viz import as_seen, clip_groups, patch_groups, reducing_blocks

GROUPS = np.dtype("<u2")  # 0 for a patch that was dropped, else the number of its token, counted from 1


@dataclass(frozen=True)
class Picture:
    """One image or clip. name: of its class.

    frames: of an image one, else some of a clip's; each the bytes of ``(height, width, 3)`` pixels in base64.
    groups: by model, the token of each patch, the bytes of ``(frames, h, w)`` numbers of two bytes in base64.
    """

    name: str
    frames: tuple[str, ...]
    groups: Mapping[str, str]


@dataclass(frozen=True)
class Pictures:
    """Images or clips, and which of their patches are one token at a block.

    block: counted from 0. size: height and width of a frame in pixels. grid: patches down and across.
    """

    block: int
    size: tuple[int, int]
    grid: tuple[int, int]
    pictures: tuple[Picture, ...]

    def frames(self, picture: Picture) -> list[Image.Image]:
        """The frames of a picture."""
        pixels = (np.frombuffer(base64.b64decode(text), dtype=np.uint8) for text in picture.frames)
        return [Image.fromarray(one.reshape(*self.size, 3)) for one in pixels]

    def groups(self, picture: Picture, model: str) -> NDArray[np.int64]:
        """The token of each patch, ``(frames, h, w)``; -1 for patches that were dropped."""
        numbers = np.frombuffer(base64.b64decode(picture.groups[model]), dtype=GROUPS)
        return numbers.astype(np.int64).reshape(len(picture.frames), *self.grid) - 1

    @staticmethod
    def read(content: dict[str, Any]) -> Pictures:
        """From a cell's file.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is damaged.
        """
        pictures = tuple(Picture(one["name"], tuple(one["frames"]), one["groups"]) for one in content["pictures"])
        height, width = content["size"]
        down, across = content["grid"]
        found = Pictures(int(content["block"]), (int(height), int(width)), (int(down), int(across)), pictures)
        if not pictures:
            raise ValueError("it has no pictures")
        for picture in pictures:
            found.frames(picture)
            for model in picture.groups:
                found.groups(picture, model)
        return found


def take(models: Mapping[str, ReducibleModel], source: Source, sizes: Drawing) -> Pictures:
    """Show models, which differ in their weights alone, some images evenly spaced over a source and so its classes.

    Raises:
        ConfigError: the models are not reduced. DataError: an image cannot be read.
    """
    first = next(iter(models.values()))
    if not (blocks := reducing_blocks(first)):
        raise ConfigError("draw merged patches", given="a model without a reduction", why="no patches are merged")
    preparation = Preparation.of(first)
    clips = preparation.frames > 1
    count = sizes.clips if clips else sizes.images
    places = [(2 * number + 1) * len(source.labels) // (2 * count) for number in range(count)]
    images = inputs(first, source, places)
    shown = chosen_frames(preparation.frames, sizes.frames) if clips else [0]
    groups = {name: merged(model, images, blocks[-1], shown) for name, model in models.items()}
    pictures = []
    for number, place in enumerate(places):
        frames = images[number].unbind(1) if clips else [images[number]]
        seen = [shrunk(as_seen(frames[frame], preparation), sizes.pixels) for frame in shown]
        own = {name: as_text(of[number].astype(GROUPS)) for name, of in groups.items()}
        kept = tuple(as_text(np.asarray(one)) for one in seen)
        pictures.append(Picture(source.classes[source.labels[place]], kept, own))
    width, height = seen[0].size
    down, across = first.config.grid
    return Pictures(blocks[-1], (height, width), (down, across), tuple(pictures))


@torch.inference_mode()
def merged(model: ReducibleModel, images: Tensor, block: int, shown: Sequence[int]) -> NDArray[np.int64]:
    """The token of each patch at a block, counted from 1: ``(n, frames, h, w)``, of the frames that are shown."""
    with seeded(0):  # some reductions draw
        tokens = model.eval().trace(images.to(next(model.parameters()).device)).blocks[block]
    if images.ndim == 4:
        return patch_groups(tokens, model.config)[:, None] + 1
    groups = clip_groups(tokens, model.config)
    return groups[:, [frame * groups.shape[1] // images.shape[2] for frame in shown]] + 1


def chosen_frames(frames: int, wanted: int) -> list[int]:
    """Frames evenly spaced over a clip, the first and the last among them."""
    count = min(frames, wanted)
    return [round(number * (frames - 1) / max(1, count - 1)) for number in range(count)]


def shrunk(image: Image.Image, pixels: int) -> Image.Image:
    """The image with a longer side of at most so many pixels."""
    share = min(1.0, pixels / max(image.size))
    size = round(image.width * share), round(image.height * share)
    return image if size == image.size else image.resize(size, Image.Resampling.BOX)


def as_text(values: NDArray[Any]) -> str:
    """The bytes of an array in base64."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
