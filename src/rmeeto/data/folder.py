"""A folder per class, its name the class's; labels by rank of the names, as torchvision has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from rmeeto.data.media import CLIPS, IMAGES, Kind
from rmeeto.data.source import Split, shortened
from rmeeto.errors import DataError

SPLIT_NAMES = {"train": ("train",), "val": ("val", "validation")}
LAYOUT = "lay the {many} out as {root}/train/CLASS/{example} and {root}/val/CLASS/{example}"


@dataclass(frozen=True)
class FolderSource:
    """The images of one split below a folder. paths: full, sorted within each class."""

    address: str
    split: Split
    classes: tuple[str, ...]
    labels: tuple[int, ...] = field(repr=False)
    paths: tuple[str, ...] = field(repr=False)
    glyphs: bool = False

    def read(self, index: int) -> Image.Image:
        """Decode a file."""
        with Image.open(self.paths[index]) as image:
            image.load()
        return image

    def name(self, index: int) -> str:
        """The file's path."""
        return self.paths[index]


class Listing(NamedTuple):
    """The files of one split: names by label, and a label per path."""

    classes: tuple[str, ...]
    labels: tuple[int, ...] = field(repr=False)
    paths: tuple[str, ...] = field(repr=False)


def open_folder(address: str, split: Split) -> FolderSource:
    """List the images of one split. Raises what :func:`list_folder` raises."""
    return FolderSource(str(address), split, *list_folder(address, split, IMAGES))


def holds_clips(address: str, split: Split) -> bool:
    """Whether the first class folder with anything in it holds clips."""
    root = Path(address).expanduser()
    if not root.is_dir():
        return False
    base = next((root / name for name in SPLIT_NAMES[split] if (root / name).is_dir()), root)
    for name in _class_names(base):
        if CLIPS.below(base / name):
            return True
        if IMAGES.below(base / name):
            return False
    return False


def list_folder(address: str, split: Split, kind: Kind) -> Listing:
    """List the files of one kind in one split.

    When there is a ``train/`` folder, its class names number the classes of both splits, so that a class without
    validation files does not shift the labels of those behind it.

    Raises:
        DataError: no folder, no such split, no class folders, no files, or a class that training does not know.
    """
    root = Path(address).expanduser()
    fix = LAYOUT.format(root=address, many=kind.many, example=kind.example)
    if not root.is_dir():
        why = "it is a file, not a folder" if root.exists() else "there is no such folder"
        raise DataError(f"open the {kind.many} in {address}", why=why, fix=f"check the path, or {fix}")
    base = _split_folder(root, split, fix)
    train = root / "train"
    classes = _class_names(train if train.is_dir() else base)
    present = _class_names(base)
    if not present:
        raise _no_classes(base, kind, fix)
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
        found = kind.below(base / name) if name in present else []
        if not found and split == "train":
            why = f"class {name!r} has no {kind.many}"
            raise DataError(f"train on {base}", why=why, fix="fill or remove that folder")
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise DataError(
            f"open the {kind.many} in {base}",
            given=f"{len(present)} folders: {shortened(present)}",
            why=f"none of them holds {kind.one} ({', '.join(kind.extensions)})",
            fix=fix,
        )
    return Listing(tuple(classes), tuple(labels), tuple(paths))


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


def _no_classes(base: Path, kind: Kind, fix: str) -> DataError:
    loose = sum(kind.fits(entry.name) for entry in base.iterdir())
    return DataError(
        f"open the {kind.many} in {base}",
        given=f"{loose} {kind.many} directly in it" if loose else "an empty folder",
        why=f"there are no class folders, so nothing says which {kind.one.split()[1]} is what",
        fix=fix,
    )
