"""Source: the labelled images of one split, unprepared; and the ways to open one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from PIL.Image import Image

Split = Literal["train", "val"]


class Source(Protocol):
    """Labelled images that can be read in any order.

    address: what was asked for. classes: names by label. labels: one per image.
    glyphs: the images are characters, which must be neither mirrored nor cropped.
    """

    address: str
    split: Split
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    glyphs: bool

    def read(self, index: int) -> Image:
        """Decode one image fully, in whatever mode it is stored."""
        ...

    def name(self, index: int) -> str:
        """What to call an image in a message: its path where it has one."""
        ...


def open_data(source: str | Path, split: Split) -> Source:
    """Open the images of one split.

    source: an image folder (``train/`` and ``val/`` with a folder per class each; for ``val`` also a folder that
    itself holds the class folders), a timm dataset string such as ``torch/cifar10`` or ``hfds/owner/name``, or
    ``digits``, the handwritten digits that come with scikit-learn.

    Raises:
        DataError: the source is missing, empty, or has no class folders.
    """
    raise NotImplementedError
