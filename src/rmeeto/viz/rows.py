"""Rows of pictures: an image or a clip, then its groups of merged patches at some blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from rmeeto.data.transforms import Preparation, evaluation_transform
from rmeeto.errors import ConfigError
from rmeeto.models.reducible import ReducibleModel
from rmeeto.reduction.tokens import Tokens
from rmeeto.viz.groups import PICTURE_PIXELS, clip_groups, draw_clip_groups, draw_groups, patch_groups


@dataclass(frozen=True)
class Panel:
    """One picture of a row. title: the text above it."""

    title: str
    picture: Image.Image


@dataclass(frozen=True)
class Row:
    """One image: itself, then its groups at some blocks. Or one track of a clip, frame by frame."""

    name: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Track:
    """A clip's frames, or its groups at one block, one picture for each frame."""

    title: str
    frames: tuple[Image.Image, ...]


@dataclass(frozen=True)
class Clip:
    """One clip: itself, then its groups at some blocks."""

    name: str
    tracks: tuple[Track, ...]


@torch.inference_mode()
def merged_groups(
    model: ReducibleModel, images: Sequence[Image.Image], names: Sequence[str], blocks: Sequence[int]
) -> list[Row]:
    """Run the model and draw, for each image, its groups of merged patches at each of the blocks.

    Raises:
        ConfigError: a block that the model does not have.
    """
    _check_blocks(model, blocks)
    preparation = Preparation.of(model)
    transform = evaluation_transform(preparation, glyphs=False)
    rows = []
    for image, name in zip(images, names, strict=True):
        prepared = transform(image)
        seen = as_seen(prepared, preparation)
        panels = [Panel("image", enlarged(seen))]
        for title, tokens in _at_blocks(model, prepared, blocks):
            panels.append(Panel(title, draw_groups(seen, patch_groups(tokens, model.config)[0])))
        rows.append(Row(name, tuple(panels)))
    return rows


@torch.inference_mode()
def merged_clip_groups(
    model: ReducibleModel, clips: Iterable[Tensor], names: Sequence[str], blocks: Sequence[int]
) -> list[Clip]:
    """The same for clips, each ``(c, t, h, w)`` as the model takes it (paper, Figure 5).

    Raises:
        ConfigError: a block that the model does not have.
    """
    _check_blocks(model, blocks)
    preparation = Preparation.of(model)
    drawn = []
    for clip, name in zip(clips, names, strict=True):
        frames = [as_seen(frame, preparation) for frame in clip.unbind(1)]
        tracks = [Track("clip", tuple(map(enlarged, frames)))]
        for title, tokens in _at_blocks(model, clip, blocks):
            tracks.append(Track(title, tuple(draw_clip_groups(frames, clip_groups(tokens, model.config)[0]))))
        drawn.append(Clip(name, tuple(tracks)))
    return drawn


def _at_blocks(model: ReducibleModel, prepared: Tensor, blocks: Sequence[int]) -> Iterator[tuple[str, Tokens]]:
    """An input's tokens at each block, and a title that has their number if it is the same for all inputs."""
    trace = model.eval().trace(prepared[None].to(next(model.parameters()).device))
    varies = model.reduction is not None and model.reduction.varies
    for block in blocks:
        tokens = trace.blocks[block]
        yield f"block {block}" if varies else f"block {block}: {tokens.length} tokens", tokens


def strip(clips: Sequence[Clip]) -> list[Row]:
    """Clips as rows of a sheet: frames side by side, the clip above its groups."""
    return [
        Row(
            f"{clip.name}\n{track.title}",
            tuple(Panel(f"frame {number}", frame) for number, frame in enumerate(track.frames, 1)),
        )
        for clip in clips
        for track in clip.tracks
    ]


def moments(clips: Sequence[Clip]) -> list[list[Row]]:
    """Clips as one sheet after another, one for each frame: the clip beside its groups."""
    count = len(clips[0].tracks[0].frames)
    return [
        [Row(clip.name, tuple(Panel(track.title, track.frames[time]) for track in clip.tracks)) for clip in clips]
        for time in range(count)
    ]


def _check_blocks(model: ReducibleModel, blocks: Sequence[int]) -> None:
    for block in blocks:
        if not 0 <= block < model.config.depth:
            raise ConfigError(
                f"draw block {block}",
                given=f"a model of {model.config.depth} blocks",
                why=f"blocks count from 0 to {model.config.depth - 1}",
                fix=f"those that reduce are {', '.join(map(str, reducing_blocks(model)))}",
            )


def reducing_blocks(model: ReducibleModel) -> list[int]:
    """The blocks at whose entry tokens are removed."""
    return [block for block, count in enumerate(model.schedule.counts) if count]


def typical_blocks(model: ReducibleModel) -> list[int]:
    """The first, middle and last block that reduce (2, 12 and 22 of Vim)."""
    reducing = reducing_blocks(model)
    return sorted({reducing[0], reducing[len(reducing) // 2], reducing[-1]}) if reducing else []


def as_seen(prepared: Tensor, preparation: Preparation) -> Image.Image:
    """The picture behind a ``(c, h, w)`` input: cropped and resized as the model sees it, colours undone."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (preparation.mean, preparation.std))
    pixels = (prepared * std + mean).clamp(0, 1).mul(255).round().byte()
    return Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).numpy())


def enlarged(image: Image.Image) -> Image.Image:
    """The image enlarged to the size of its pictures of groups."""
    factor = max(1, PICTURE_PIXELS // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
