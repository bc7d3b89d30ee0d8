"""An image folder: one folder per class, its name the class's; labels by rank of the names, as torchvision has them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rmeeto.data.source import Split, shortened
from rmeeto.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
SPLIT_NAMES = {"train": ("train",), "val": ("val", "validation")}
LAYOUT = "lay the images out as {root}/train/CLASS/*.jpg and {root}/val/CLASS/*.jpg"


@dataclass(frozen=True)
class FolderSource:
    """The images of one split below a folder. paths: full, sorted within each class."""

    address: str
    split: Split
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    paths: tuple[str, ...]
    glyphs: bool = False

    def read(self, index: int) -> Image.Image:
        """Decode a file."""
        with Image.open(self.paths[index]) as image:
            image.load()
        return image

    def name(self, index: int) -> str:
        """The file's path."""
        return self.paths[index]


def open_folder(address: str, split: Split) -> FolderSource:
    """List the images of one split.

    When there is a ``train/`` folder, its class names number the classes of both splits, so that a class without
    validation images does not shift the labels of those behind it.

    Raises:
        DataError: no folder, no such split, no class folders, no images, or a class that training does not know.
    """
    root = Path(address).expanduser()
    fix = LAYOUT.format(root=address)
    if not root.is_dir():
        why = "it is a file, not a folder" if root.exists() else "there is no such folder"
        raise DataError(f"open the images in {address}", why=why, fix=f"check the path, or {fix}")
    base = _split_folder(root, split, fix)
    train = root / "train"
    classes = _class_names(train if train.is_dir() else base)
    present = _class_names(base)
    if not present:
        raise _no_classes(base, fix)
    strangers = sorted(set(present) - set(classes))
    if strangers:
        raise DataError(
            f"number the classes of {base}",
            given=f"{shortened(strangers)} beside {len(classes)} classes in {train}",
            why="validation has classes that training does not know",
            fix="give both splits the same class folders",
        )
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = _images(base / name) if name in present else []
        if not found and split == "train":
            raise DataError(f"train on {base}", why=f"class {name!r} has no images", fix="fill or remove that folder")
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise DataError(
            f"open the images in {base}",
            given=f"{len(present)} folders: {shortened(present)}",
            why=f"none of them holds an image ({', '.join(EXTENSIONS)})",
            fix=fix,
        )
    return FolderSource(str(address), split, tuple(classes), tuple(labels), tuple(paths))


def _split_folder(root: Path, split: Split, fix: str) -> Path:
    for name in SPLIT_NAMES[split]:
        if (root / name).is_dir():
            return root / name
    if split == "train":
        raise DataError(
            f"train on {root}",
            given=f"folders {shortened(_class_names(root))}" if _class_names(root) else "no folders",
            why="there is no train/ folder in it; a folder that holds the classes itself serves for evaluation only",
            fix=fix,
        )
    if (root / "train").is_dir():
        raise DataError(f"evaluate on {root}", why="there is a train/ folder in it but no val/", fix=fix)
    return root


def _class_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> list[str]:
    return sorted(
        os.path.join(place, file)
        for place, _, names in os.walk(folder, followlinks=True)
        for file in names
        if file.lower().endswith(EXTENSIONS) and not file.startswith(".")
    )


def _no_classes(base: Path, fix: str) -> DataError:
    loose = sum(entry.name.lower().endswith(EXTENSIONS) for entry in base.iterdir())
    return DataError(
        f"open the images in {base}",
        given=f"{loose} images directly in it" if loose else "an empty folder",
        why="there are no class folders, so nothing says which image is what",
        fix=fix,
    )
