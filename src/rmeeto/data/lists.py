"""Kinetics-style lists: a path and a label on every line, separated by a space, a tab or a comma."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from rmeeto.data.classes import Classes, read_classes
from rmeeto.data.folder import SPLIT_NAMES, ClipFiles
from rmeeto.data.media import CLIPS, IMAGES
from rmeeto.data.source import SPLITS, Split
from rmeeto.data.video import require_av
from rmeeto.data.walk import entries
from rmeeto.errors import DataError, listed
from rmeeto.files.paths import given_path, shown

LIST_ENDINGS = (".csv", ".txt", ".tsv")
USUAL_PLACES = (".", "videos")
LINES_SHOWN = 10
LONGEST_LINE = 1 << 16  # characters; paths are at most some thousand
SHOWN_LENGTH = 200
MANY_CLASSES = 100_000  # more than that only where there are as many clips
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")  # of a size that fits into a tensor
FORM = "path label, or path,label, where label is a number or a class's name"


class WrongLines(DataError):
    """A list with lines that cannot be used. lines: ``file:number: reason``. rest: the clips of the other lines."""

    def __init__(self, address: str, lines: Sequence[str], rest: ClipFiles) -> None:
        self.lines, self.rest = tuple(lines), rest
        super().__init__(
            f"open the clips in {address}",
            given=shown(listed(lines, LINES_SHOWN)),
            why="a list with wrong lines left out would be another data set",
            fix=f"correct or remove them; a line is {FORM}",
        )


def listed_splits(address: str) -> tuple[Split, ...]:
    """The splits for which an address has lists of clips; empty if its lists are of images, as in some image sets."""
    lists = _lists(_places(address)[0])
    first_lines = (next(_lines(path), (1, ""))[1].lower() for path in lists.values())
    is_of_images = any(ending in line for line in first_lines for ending in IMAGES.extensions)
    return () if is_of_images else tuple(lists)


def find_list(folder: Path, split: Split) -> Path | None:
    """The list of a split: ``train.csv``, ``val.txt`` and the like."""
    paths = (folder / (name + ending) for name in SPLIT_NAMES[split] for ending in LIST_ENDINGS)
    return next((path for path in paths if path.is_file()), None)


def open_lists(address: str, split: Split) -> ClipFiles:
    """Read the list of one split.

    address: a folder of lists, or ``FOLDER:PREFIX`` where the clips are elsewhere. Paths are absolute, or relative to
    the prefix; without one, to the folder or its ``videos/``. Classes are named by ``classes.tsv``, ``.csv`` or
    ``.txt`` beside the lists; without such a file they are as many as the largest label in either list asks for.

    Raises:
        DataError: no list for this split, an impossible file of classes, or PyAV is missing.
        WrongLines: a label that is missing, unknown, out of range or so large that it must be a mistake, or a clip
            that is not there.
    """
    require_av()
    folder, prefixes = _places(address)
    path = find_list(folder, split)
    if path is None:
        raise DataError(
            f"open the {split} clips in {address}",
            given=", ".join(sorted(entry.name for entry in entries(folder) if entry.name.endswith(LIST_ENDINGS))),
            why=f"there is no {split}.csv",
            fix=f"write one; a line is {FORM}",
        )
    classes = read_classes(folder)
    labels, paths, wrong = [], [], []
    find = _finder(prefixes)
    # labels without names are below this: a few rows do not have a million classes, so that is a mistake
    limit = max(MANY_CLASSES, sum(1 for each in _lists(folder).values() for _ in _lines(each)))
    for number, line in _lines(path):
        try:
            name, label = split_line(line, classes)
            if classes is None and label >= limit:
                raise ValueError(f"label {label} would mean that there are at least {label + 1} classes")
            paths.append(find(name))
            labels.append(label)
        except ValueError as error:
            wrong.append(f"{path}:{number}: {str(error)[:SHOWN_LENGTH]}")
    names = classes.names if classes is not None else _numbered_classes(folder, limit)
    source = ClipFiles(address, split, names, tuple(labels), tuple(paths))
    if wrong:
        raise WrongLines(address, wrong, source)
    if not paths:
        raise DataError(f"open the {split} clips in {address}", why=f"{path} is empty", fix=f"a line is {FORM}")
    return source


def split_line(line: str, classes: Classes | None) -> tuple[str, int]:
    """Path and label. Paths may hold spaces and commas, and may be quoted; what ends the line decides.

    >>> split_line("arm wrestling/a, b.mp4 3", None)
    ('arm wrestling/a, b.mp4', 3)

    Raises:
        ValueError: no label, or none that is known; the message says which.
    """
    if line.startswith('"') and '"' in line[1:]:
        path, _, rest = line[1:].partition('"')
        pairs = [(path, rest.strip(", \t"))]
    else:
        by_comma, by_space = line.rpartition(","), line.rsplit(maxsplit=1)
        pairs = [(by_comma[0], by_comma[2])] if by_comma[1] else []
        pairs += [(by_space[0].rstrip(","), by_space[1])] if len(by_space) == 2 else []
    reasons = []
    for path, text in pairs:
        try:
            return path.strip(), _label(text.strip().strip('"'), classes)
        except ValueError as error:
            reasons.append(str(error))
    last = pairs[-1][1] if pairs else line
    if not last or CLIPS.fits(last):
        raise ValueError(f"no label behind {line!r}")
    raise ValueError(reasons[0] if reasons else f"{line!r} is not {FORM}")


def _label(text: str, classes: Classes | None) -> int:
    if not WHOLE_NUMBER.fullmatch(text):
        if classes is None:
            raise ValueError(f"label {text!r} is not a whole number, and no classes.tsv names it")
        if text in classes.shared:
            raise ValueError(f"label {text!r} is the name of several classes; give the number")
        if text not in classes.labels:
            raise ValueError(f"label {text!r} is neither a whole number nor one of the classes")
        return classes.labels[text]
    label = int(text)
    if label < 0 or (classes is not None and label >= len(classes.names)):
        limit = "" if classes is None else f": there are {len(classes.names)} classes, numbered from 0"
        raise ValueError(f"label {label} is out of range{limit}")
    return label


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, blank ones left out. Paths may be in any encoding, as they are on disk.

    Raises:
        DataError: it cannot be read, or is no list.
    """
    asked, number = f"read the list {path}", 0
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            while line := file.readline(LONGEST_LINE):
                number += 1
                if "\0" in line or len(line) == LONGEST_LINE:
                    raise DataError(
                        asked,
                        given=f"line {number}: {shown(line[:40])!a} …",
                        why="it is not text in UTF-8 with one clip on a line",
                        fix=f"save it as UTF-8; a line is {FORM}",
                    )
                if line.strip():
                    yield number, line.strip()
    except OSError as error:
        raise DataError(asked, why=error.strerror or str(error), fix="make the file readable") from error


def _lists(folder: Path) -> dict[Split, Path]:
    return {split: path for split in SPLITS if (path := find_list(folder, split)) is not None}


def _numbered_classes(folder: Path, limit: int) -> tuple[str, ...]:
    """As many classes as the largest label of both lists asks for, so that both splits have the same."""
    most = -1
    for path in _lists(folder).values():
        for _, line in _lines(path):
            try:
                label = split_line(line, None)[1]
            except ValueError:
                continue  # reported for the split that is being opened
            most = max(most, label if label < limit else -1)
    return tuple(str(label) for label in range(most + 1))


def _places(address: str) -> tuple[Path, tuple[Path, ...]]:
    """The folder of the lists, and the folders that paths may be relative to."""
    asked = f"open {address}"
    whole = given_path(address, asked)
    folder, colon, prefix = address.rpartition(":")
    if whole.exists() or not (colon and folder and prefix):
        return whole, tuple(whole / place for place in USUAL_PLACES)
    return given_path(folder, asked), (given_path(prefix, asked),)


def _finder(prefixes: Sequence[Path]) -> Callable[[str], str]:
    """Full paths of names. Folders are listed once each: asking about every file takes minutes on a shared disk."""

    @cache
    def listing(folder: str) -> frozenset[str]:
        try:
            return frozenset(os.listdir(folder))
        except OSError:
            return frozenset()

    def find(name: str) -> str:
        for prefix in prefixes:
            path = os.path.normpath(prefix / name)
            folder, file = os.path.split(path)
            if file in listing(folder):
                return path
        raise ValueError(f"there is no file '{name}' in {prefixes[0]}")

    return find
