"""Any data set that timm can open by a string and that can be read in any order: ``torch/…`` and ``hfds/…``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from PIL import Image

from rmeeto.data.source import Split
from rmeeto.errors import DataError

RANDOM_ACCESS = ("torch/", "hfds/")
STREAMING = ("hfids/", "tfds/", "wds/")
SPLIT_NAMES = {"train": ("train",), "val": ("validation", "test")}
GLYPHS = ("mnist", "kmnist", "qmnist")
CACHE = "~/.cache/rmeeto/data"


class TimmSource:
    """One split of a data set opened by timm. dataset: torchvision's, or a timm reader of Hugging Face data."""

    def __init__(self, address: str, split: Split, dataset: Any) -> None:
        self.address, self.split = address, split
        name = address.partition("/")[2].partition(":")[0]
        self.glyphs = name in GLYPHS
        # timm's own image data set replaces unreadable files silently; its reader hands them over as they are
        self._images = getattr(dataset, "reader", dataset)
        self.classes, self.labels = _classes_and_labels(self._images, address)

    def read(self, index: int) -> Image.Image:
        """Decode one image."""
        content = self._images[index][0]
        if isinstance(content, Image.Image):
            return content
        with Image.open(content) as image:
            image.load()
        return image

    def name(self, index: int) -> str:
        """Its number within the split."""
        return f"{self.address}/{self.split}/{index}"


def is_timm_address(address: str) -> bool:
    """Whether a string names a data set in timm's way."""
    return address.lower().startswith(RANDOM_ACCESS + STREAMING)


def open_timm(address: str, split: Split) -> TimmSource:
    """Open ``PREFIX/NAME`` or ``PREFIX/NAME:FOLDER``; torchvision's sets are downloaded where they are missing.

    Raises:
        DataError: timm cannot open it, or it can only be streamed.
    """
    if address.lower().startswith(STREAMING):
        raise DataError(
            f"use {address}",
            why="a stream has no order to return to, so a run on it could not be resumed exactly",
            fix="use hfds/… instead of hfids/…, or unpack the data into an image folder",
        )
    from timm.data.dataset_factory import create_dataset

    name, _, folder = address.partition(":")
    of_torchvision = name.lower().startswith("torch/")
    root = os.path.expanduser(folder or (CACHE if of_torchvision else "")) or None
    if of_torchvision and not folder:
        Path(str(root)).mkdir(parents=True, exist_ok=True)
    # readers of Hugging Face data fetch by themselves
    download = of_torchvision and not name.lower().endswith(("folder", "imagenet"))
    refusals: list[str] = []
    for split_name in SPLIT_NAMES[split]:
        try:
            dataset = create_dataset(name, root=root, split=split_name, download=download)
        except (OSError, RuntimeError, ValueError, TypeError, AssertionError, ImportError, KeyError) as error:
            refusals.append(f"{type(error).__name__}: {str(error).strip() or 'no further message'}")
        else:
            return TimmSource(address, split, dataset)
    raise DataError(
        f"open {address}",
        given=f"split {split}",
        why="; ".join(dict.fromkeys(line.splitlines()[0][:200] for line in refusals)),
        fix="check the name (torch/cifar10, hfds/owner/name), or say where the data is: torch/cifar10:FOLDER",
    )


def _classes_and_labels(images: Any, address: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names by label and a label per image, without decoding any."""
    if hasattr(images, "targets") and hasattr(images, "classes"):
        names = (", ".join(name) if isinstance(name, tuple) else str(name) for name in images.classes)
        return tuple(names), tuple(int(label) for label in images.targets)
    if hasattr(images, "dataset") and hasattr(images, "label_key"):
        labels = tuple(int(label) for label in images.dataset[images.label_key])
        named = {index: str(name) for name, index in (images.class_to_idx or {}).items()}
        count = max(len(named), max(labels, default=-1) + 1)
        return tuple(named.get(label, str(label)) for label in range(count)), labels
    raise DataError(
        f"use {address}",
        given=type(images).__name__,
        why="it does not list its labels",
        fix="unpack the data into an image folder: train/CLASS/*.jpg and val/CLASS/*.jpg",
    )
