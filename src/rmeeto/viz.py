"""Pictures of what was merged: every group of patches in its mean colour, as in the paper's Figure 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image

from rmeeto.config import ModelConfig
from rmeeto.data.transforms import Preparation, evaluation_transform
from rmeeto.errors import ConfigError
from rmeeto.models.backbone import VisionMamba
from rmeeto.models.checkpoint import write_atomically
from rmeeto.tokens import Tokens

Pixels = NDArray[np.float64]
Groups = NDArray[np.int64]

DROPPED = -1
BORDER = np.array([1.0, 1.0, 1.0])
BORDER_OPACITY = 0.75
BORDER_SHARE = 1 / 24  # of a patch's side: as thin beside a patch of 2 pixels as beside one of 16
PICTURE_PIXELS = 672  # small images are enlarged to about this, so that borders stay thin beside their patches
CELL_INCHES = 2.1


@dataclass(frozen=True)
class Panel:
    """One picture of a row. title: what stands above it."""

    title: str
    picture: Image.Image


@dataclass(frozen=True)
class Row:
    """One image: itself, then its groups at some blocks."""

    name: str
    panels: tuple[Panel, ...]


def patch_groups(tokens: Tokens, config: ModelConfig) -> Groups:
    """Which token each patch ended in: ``(b, h, w)`` over the grid of patches, -1 where it was dropped.

    The class token is left out by its place before any reduction; where it moved since does not matter.
    """
    group = tokens.group()
    place = config.cls_index
    patches = torch.cat([group[:, :place], group[:, place + 1 :]], dim=1)
    return np.asarray(patches.reshape(-1, *config.grid).cpu(), dtype=np.int64)


def over_pixels(groups: Groups, height: int, width: int) -> Groups:
    """Spread ``(h, w)`` groups evenly over ``(height, width)`` pixels.

    Where patches overlap (a stride below the patch size) each keeps the pixels around its middle.
    """
    rows = np.arange(height) * groups.shape[0] // height
    columns = np.arange(width) * groups.shape[1] // width
    return np.asarray(groups[rows[:, None], columns])


def mean_colours(image: Pixels, groups: Groups) -> Pixels:
    """Give every pixel of ``(height, width, 3)`` the mean colour of its group's pixels."""
    _, index = np.unique(groups, return_inverse=True)
    index = index.reshape(-1)
    count = np.bincount(index)
    means = np.stack([np.bincount(index, weights=image[..., c].reshape(-1)) / count for c in range(3)], axis=-1)
    return means[index].reshape(image.shape)


def draw_groups(image: Image.Image, groups: Groups, *, size: int = PICTURE_PIXELS) -> Image.Image:
    """Draw ``(h, w)`` groups over an image.

    Each group is filled with its mean colour; a thin light line parts different groups; dropped patches (-1) are pale
    grey and hatched. size: the picture's longer side in pixels, about: the image is enlarged by a whole factor.
    """
    factor = max(1, size // max(image.size))
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64) / 255
    cells = over_pixels(groups, *pixels.shape[:2])
    painted = np.where((cells == DROPPED)[..., None], faded(pixels), mean_colours(pixels, cells))
    painted, cells = (array.repeat(factor, 0).repeat(factor, 1) for array in (painted, cells))
    painted = np.where((hatching(cells.shape) & (cells == DROPPED))[..., None], painted * 0.8, painted)
    patch = max(cells.shape) / max(groups.shape)
    line = borders(cells, thickness=max(1, round(patch * BORDER_SHARE)))[..., None] * BORDER_OPACITY
    painted = painted * (1 - line) + BORDER * line
    return Image.fromarray((painted * 255).round().astype(np.uint8))


def faded(pixels: Pixels) -> Pixels:
    """Grey and pale."""
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    return np.repeat((0.55 + 0.35 * grey)[..., None], 3, axis=-1)


def hatching(shape: tuple[int, ...], period: int = 12, thickness: int = 2) -> NDArray[np.bool_]:
    """Diagonal lines."""
    rows, columns = np.indices(shape)
    return np.asarray((rows + columns) % period < thickness)


def borders(cells: Groups, thickness: int) -> NDArray[np.bool_]:
    """Where a pixel's neighbour to the left or above, at most ``thickness`` away, belongs to another group."""
    edge = np.zeros(cells.shape, dtype=bool)
    for step in range(1, thickness + 1):
        edge[step:] |= cells[step:] != cells[:-step]
        edge[:, step:] |= cells[:, step:] != cells[:, :-step]
    return edge


@torch.inference_mode()
def merged_groups(
    model: VisionMamba, images: Sequence[Image.Image], names: Sequence[str], blocks: Sequence[int]
) -> list[Row]:
    """Run the model and draw, for each image, what its patches had been merged to at each of the blocks.

    Raises:
        ConfigError: a block that the model does not have.
    """
    for block in blocks:
        if not 0 <= block < model.config.depth:
            raise ConfigError(
                f"draw block {block}",
                given=f"a model of {model.config.depth} blocks",
                why=f"blocks count from 0 to {model.config.depth - 1}",
                fix=f"those that reduce are {', '.join(map(str, reducing_blocks(model)))}",
            )
    preparation = Preparation.of(model)
    transform = evaluation_transform(preparation, glyphs=False)
    rows = []
    for image, name in zip(images, names, strict=True):
        prepared = transform(image)
        trace = model.eval().trace(prepared[None].to(model.cls_token.device))
        seen = as_seen(prepared, preparation)
        panels = [Panel("image", enlarged(seen))]
        for block in blocks:
            tokens = trace.blocks[block]
            picture = draw_groups(seen, patch_groups(tokens, model.config)[0])
            panels.append(Panel(f"block {block}: {tokens.length} tokens", picture))
        rows.append(Row(name, tuple(panels)))
    return rows


def reducing_blocks(model: VisionMamba) -> list[int]:
    """The blocks at whose entry tokens are removed."""
    return [block for block, count in enumerate(model.schedule.counts) if count]


def typical_blocks(model: VisionMamba) -> list[int]:
    """The first, middle and last block that reduce (2, 12 and 22 of Vim)."""
    reducing = reducing_blocks(model)
    return sorted({reducing[0], reducing[len(reducing) // 2], reducing[-1]}) if reducing else []


def as_seen(prepared: torch.Tensor, preparation: Preparation) -> Image.Image:
    """The picture behind a ``(c, h, w)`` input: cropped and resized as the model sees it, colours undone."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (preparation.mean, preparation.std))
    pixels = (prepared * std + mean).clamp(0, 1).mul(255).round().byte()
    return Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).numpy())


def enlarged(image: Image.Image) -> Image.Image:
    """As large as its pictures of groups."""
    factor = max(1, PICTURE_PIXELS // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def figure(rows: Sequence[Row]) -> Figure:
    """Lay rows of pictures out, titles above the columns and names at the left."""
    columns = max(len(row.panels) for row in rows)
    tight = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    sheet = Figure(figsize=(columns * CELL_INCHES, len(rows) * CELL_INCHES + 0.25), layout=tight)
    FigureCanvasAgg(sheet)
    axes = sheet.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for place, (cell, panel) in enumerate(zip(line, row.panels, strict=True)):
            cell.imshow(panel.picture, interpolation="antialiased")
            cell.set_xticks([])
            cell.set_yticks([])
            for spine in cell.spines.values():
                spine.set_visible(False)
            if row is rows[0]:
                cell.set_title(panel.title, fontsize=8)
            if place == 0:
                cell.set_ylabel(row.name, fontsize=7, color="0.35")
    return sheet


def check_format(path: Path) -> str:
    """The picture format that a path's ending names.

    Raises:
        ConfigError: matplotlib does not write that format.
    """
    form = path.suffix.removeprefix(".").lower()
    known = FigureCanvasAgg.get_supported_filetypes()
    if form not in known:
        raise ConfigError(
            f"write the picture {path}",
            why=f"{path.suffix!r} is not the ending of a picture" if form else "its name has no ending",
            fix=f"end it with one of: {', '.join(f'.{name}' for name in sorted(known))}",
        )
    return form


def save_figure(sheet: Figure, path: Path) -> None:
    """Write a figure in the format that the path's ending names.

    Raises:
        ConfigError: there is no such format.
        RunError: the disk refused it.
    """
    form = check_format(path)
    write_atomically(path, lambda temporary: sheet.savefig(temporary, format=form, dpi=200))
