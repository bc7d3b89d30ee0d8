"""Images or clips in a folder per class, its name the class's; labels by rank of the names, as torchvision has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import normalize

from PIL import Image

from rmeeto.data.image_file import read_image_file
from rmeeto.data.media import CLIPS, IMAGES, Kind
from rmeeto.data.source import Split, shortened
from rmeeto.data.video import TIMEOUT_SECONDS, Frames, Pick, read_frames, require_av
from rmeeto.data.walk import Walk, above, entries, is_folder
from rmeeto.errors import DataError, listed
from rmeeto.files.paths import given_path, shown

SPLIT_NAMES = {"train": ("train",), "val": ("val", "validation")}
REPEATS_SHOWN = 3
LAYOUT = "lay the {many} out as {root}/train/CLASS/{example} and {root}/val/CLASS/{example}"


@dataclass(frozen=True)
class Files:
    """The labelled files of one split. paths: full."""

    address: str
    split: Split
    classes: tuple[str, ...]
    labels: tuple[int, ...] = field(repr=False)
    paths: tuple[str, ...] = field(repr=False)
    glyphs: bool = False

    def name(self, index: int) -> str:
        """The file's path."""
        return self.paths[index]


@dataclass(frozen=True)
class FolderSource(Files):
    """The images of one split below a folder, sorted by path within each class."""

    def read(self, index: int) -> Image.Image:
        """Decode a file."""
        return read_image_file(self.paths[index])


@dataclass(frozen=True)
class ClipFiles(Files):
    """The clips of one split. timeout_seconds: after which a clip counts as unreadable."""

    timeout_seconds: float = TIMEOUT_SECONDS

    def read(self, index: int, pick: Pick) -> Frames:
        """Decode the frames whose places ``pick`` chooses, given how many there are."""
        return read_frames(self.paths[index], pick, timeout_seconds=self.timeout_seconds)


Listing = tuple[tuple[str, ...], tuple[int, ...], tuple[str, ...]]  # names by label, a label per path, paths


def open_folder(address: str, split: Split) -> FolderSource:
    """List the images of one split. Raises what :func:`list_folder` raises."""
    return FolderSource(str(address), split, *list_folder(address, split, IMAGES))


def open_clip_folder(address: str, split: Split) -> ClipFiles:
    """List the clips of one split, laid out as image folders are.

    Raises:
        DataError: what :func:`list_folder` raises, or PyAV is missing.
    """
    require_av()
    return ClipFiles(address, split, *list_folder(address, split, CLIPS))


def holds_clips(address: str, split: Split) -> bool:
    """Whether the first class folder with anything in it holds clips."""
    root = given_path(address, f"open {address}")
    if not root.is_dir():
        return False
    base = next((root / name for name in SPLIT_NAMES[split] if (root / name).is_dir()), root)
    for name in _class_names(base):
        if Walk(above(base)).files(base / name, CLIPS.fits):
            return True
        if Walk(above(base)).files(base / name, IMAGES.fits):
            return False
    return False


def list_folder(address: str, split: Split, kind: Kind) -> Listing:
    """List the files of one kind in one split.

    When there is a ``train/`` folder, its class names number the classes of both splits, so that a class without
    validation files does not shift the labels of those behind it.

    Links to folders elsewhere are followed. A link that leads back up, into another class or in a circle would give
    files the label of another class, so it is refused.

    Raises:
        DataError: no folder, no such split, no class folders, no files, a class that training does not know, or a
            folder that would be read twice.
    """
    root = given_path(address, f"open the {kind.many} in {address}")
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
        raise _unknown_classes(strangers, classes, base, train)
    _check_spellings(present, base)
    paths, labels = [], []
    walk = Walk([*above(base), *_folders_of_classes(root)])
    for label, name in enumerate(classes):
        files = walk.files(base / name, kind.fits) if name in present else []
        if walk.repeats:
            raise _read_twice(walk.repeats, base, kind)
        if not files and split == "train":
            why = f"class {name!r} has no {kind.many}"
            raise DataError(f"train on {base}", why=why, fix="fill or remove that folder")
        paths += files
        labels += [label] * len(files)
    if not paths:
        raise DataError(
            f"open the {kind.many} in {base}",
            given=f"{len(present)} folders: {shortened(present)}",
            why=f"none of them holds {kind.one} ({', '.join(kind.extensions)})",
            fix=fix,
        )
    return tuple(classes), tuple(labels), tuple(paths)


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
    return sorted(entry.name for entry in entries(folder) if is_folder(entry) and not entry.name.startswith("."))


def _unknown_classes(strangers: list[str], classes: list[str], base: Path, train: Path) -> DataError:
    """Validation has classes that training does not have, or spells in another way."""
    known = {normalize("NFC", name): name for name in classes}
    twin = known.get(normalize("NFC", strangers[0]))
    why = "validation has classes that training does not know"
    if twin is not None:
        why += f"; {strangers[0]!a} and {twin!a} look alike, but are written with different Unicode characters"
    return DataError(
        f"number the classes of {base}",
        given=f"{shortened(strangers)} beside {len(classes)} classes in {train}",
        why=why,
        fix="give both splits the same class folders",
    )


def _check_spellings(names: list[str], base: Path) -> None:
    """Raise :class:`DataError` for two folders whose names are one name in different Unicode characters."""
    spellings: dict[str, str] = {}
    for name in names:
        other = spellings.setdefault(normalize("NFC", name), name)
        if other != name:
            raise DataError(
                f"number the classes of {base}",
                given=f"{other!a} and {name!a}",
                why=f"both folders are called {name}, written with different Unicode characters",
                fix="move the files of both into one folder",
            )


def _folders_of_classes(root: Path) -> list[Path]:
    """The folders of both splits and of all their classes."""
    splits = [root / name for names in SPLIT_NAMES.values() for name in names if (root / name).is_dir()]
    return [folder for split in splits for folder in (split, *(split / name for name in _class_names(split)))]


def _read_twice(repeats: list[tuple[str, str]], base: Path, kind: Kind) -> DataError:
    lines = [f"{shown(path)} is the folder {shown(earlier)}" for path, earlier in repeats]
    return DataError(
        f"list the {kind.many} in {base}",
        given=listed(lines, REPEATS_SHOWN),
        why="links lead to the same folder in two ways, so files would be read twice or get the label of another class",
        fix="remove the links",
    )


def _no_classes(base: Path, kind: Kind, fix: str) -> DataError:
    loose = sum(kind.fits(entry.name) for entry in entries(base))
    return DataError(
        f"open the {kind.many} in {base}",
        given=f"{loose} {kind.many} directly in it" if loose else "an empty folder",
        why=f"there are no class folders, so nothing says which {kind.one.split()[1]} is what",
        fix=fix,
    )
