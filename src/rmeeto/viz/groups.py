"""Groups of patches drawn over images and clips, every group in its mean colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rmeeto.config import Sizes
from rmeeto.reduction.tokens import Tokens

Pixels = NDArray[np.float64]
Groups = NDArray[np.int64]

DROPPED = -1
BORDER = np.array([1.0, 1.0, 1.0])
BORDER_OPACITY = 0.75
BORDER_SHARE = 1 / 24  # of a patch's side: as thin beside a patch of 2 pixels as beside one of 16
PICTURE_PIXELS = 672  # small images are enlarged to about this, so that borders stay thin beside their patches


def patch_groups(tokens: Tokens, config: Sizes) -> Groups:
    """The token that each patch was merged into: ``(b, h, w)`` over the grid of patches, -1 for dropped patches.

    Class token and registers are left out, by their positions before any reduction.
    """
    return _of_patches(tokens, config).reshape(-1, *config.grid)


def clip_groups(tokens: Tokens, config: Sizes) -> Groups:
    """The same of clips, ``(b, t, h, w)``: a group may reach over several frames."""
    patches = _of_patches(tokens, config)
    return patches.reshape(len(patches), -1, *config.grid)


def _of_patches(tokens: Tokens, config: Sizes) -> Groups:
    return np.delete(np.asarray(tokens.group().cpu(), dtype=np.int64), list(config.protected), axis=1)


def over_pixels(groups: Groups, height: int, width: int) -> Groups:
    """Spread ``(h, w)`` groups evenly over ``(height, width)`` pixels.

    If patches overlap (a stride below the patch size), each keeps the pixels around its middle.
    """
    rows = np.arange(height) * groups.shape[0] // height
    columns = np.arange(width) * groups.shape[1] // width
    return np.asarray(groups[rows[:, None], columns])


def mean_colours(image: Pixels, groups: Groups) -> Pixels:
    """Give every pixel of ``(…, height, width, 3)`` the mean colour of its group's pixels."""
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
    (picture,) = draw_clip_groups([image], groups[None], size=size)
    return picture


def draw_clip_groups(frames: Sequence[Image.Image], groups: Groups, *, size: int = PICTURE_PIXELS) -> list[Image.Image]:
    """Draw ``(t, h, w)`` groups over the frames of a clip, as :func:`draw_groups` does over an image.

    A group has one colour in all frames, the mean of all its pixels. If a patch covers several frames, they share
    its groups.
    """
    factor = max(1, size // max(frames[0].size))
    pixels = np.stack([np.asarray(frame.convert("RGB"), dtype=np.float64) / 255 for frame in frames])
    per_frame = groups.repeat(len(frames) // len(groups), axis=0)
    cells = np.stack([over_pixels(frame, *pixels.shape[1:3]) for frame in per_frame])
    painted = np.where((cells == DROPPED)[..., None], faded(pixels), mean_colours(pixels, cells))
    thickness = max(1, round(factor * max(cells.shape[1:]) / max(groups.shape[1:]) * BORDER_SHARE))
    return [_finished(*frame, factor, thickness) for frame in zip(painted, cells, strict=True)]


def _finished(painted: Pixels, cells: Groups, factor: int, thickness: int) -> Image.Image:
    """One frame, enlarged, with hatching and borders."""
    painted = painted.repeat(factor, 0).repeat(factor, 1)
    cells = cells.repeat(factor, 0).repeat(factor, 1)
    painted = np.where((hatching(cells.shape) & (cells == DROPPED))[..., None], painted * 0.8, painted)
    line = borders(cells, thickness)[..., None] * BORDER_OPACITY
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
    """True for pixels whose neighbour to the left or above, at most ``thickness`` away, belongs to another group."""
    edge = np.zeros(cells.shape, dtype=bool)
    for step in range(1, thickness + 1):
        edge[step:] |= cells[step:] != cells[:-step]
        edge[:, step:] |= cells[:, step:] != cells[:, :-step]
    return edge
