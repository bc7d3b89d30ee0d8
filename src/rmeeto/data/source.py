"""Source: the labelled images or clips of one split, unprepared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256
from typing import Literal, Protocol

from PIL.Image import Image

from rmeeto.errors import DataError

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
CLASSES_SHOWN = 4


class Source(Protocol):
    """Labelled images or clips that can be read in any order.

    address: what was asked for. classes: names by label. labels: one per image or clip.
    glyphs: the images are characters, which must be neither mirrored nor cropped.
    """

    @property
    def address(self) -> str: ...  # noqa: D102
    @property
    def split(self) -> Split: ...  # noqa: D102
    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def labels(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def glyphs(self) -> bool: ...  # noqa: D102

    def name(self, index: int) -> str:
        """What to call an image or clip in a message: its path where it has one."""
        ...


class ImageSource(Source, Protocol):
    """Labelled images. Of clips only the wanted frames are read: see :class:`rmeeto.data.folder.ClipFiles`."""

    def read(self, index: int) -> Image:
        """Decode one image fully, in whatever mode it is stored.

        Raises one of :data:`rmeeto.data.samples.UNREADABLE` for a missing or broken one.
        """
        ...


def check_classes(source: Source, num_classes: int) -> None:
    """Raise :class:`DataError` unless a model with that many classes fits the data."""
    if len(source.classes) != num_classes:
        raise DataError(
            f"use {source.address} with this model",
            given=f"{len(source.classes)} classes of images ({shortened(source.classes)}), "
            f"a head for {num_classes} classes",
            why="labels and logits must mean the same classes",
            fix=f"set num_classes={len(source.classes)} for a new head (then train it), or take the model's own data",
        )


def shortened(names: Sequence[str]) -> str:
    """The first few names of many."""
    shown = ", ".join(names[:CLASSES_SHOWN])
    return f"{shown}, …" if len(names) > CLASSES_SHOWN else shown


def fingerprint(*sources: Source) -> str:
    """Twelve hexadecimal digits that change with a class, a label or an image's name (not with its folder's place)."""
    digest = sha256()
    for source in sources:
        digest.update(_bytes("\n".join((source.split, *source.classes))))
        for index, label in enumerate(source.labels):
            tail = source.name(index).replace(os.sep, "/").rsplit("/", 2)[-2:]
            digest.update(_bytes(f"\n{label} {'/'.join(tail)}"))
    return digest.hexdigest()[:12]


def _bytes(text: str) -> bytes:
    """UTF-8, also of names of files that are not."""
    return text.encode("utf-8", "surrogatepass")
