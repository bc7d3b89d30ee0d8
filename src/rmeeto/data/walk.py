"""All files below folders, through links, each folder once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rmeeto.errors import DataError
from rmeeto.files.paths import shown

Identity = tuple[int, int]
Fits = Callable[[str], bool]


class Walk:
    """Files below one folder after the other. Links to folders are followed, but no folder is entered twice.

    Hidden folders are left by other programs and are not entered.

    known: folders that no link may lead into, such as those above the folder that is walked.
    repeats: ``(path, earlier path)`` of every folder that is known or was entered before.
    """

    def __init__(self, known: Iterable[Path] = ()) -> None:
        self._paths: dict[Identity, str] = {_identity(folder): str(folder) for folder in known}
        self._walked: dict[Identity, str] = {}
        self.repeats: list[tuple[str, str]] = []

    def files(self, folder: str | Path, fits: Fits) -> list[str]:
        """The files whose names fit, searched to the bottom, sorted by their paths.

        The folder itself may be a known one, but not one that was walked before.

        Raises:
            DataError: a folder that cannot be listed.
        """
        inside = (entry for one in self.folders(folder) for entry in entries(one))
        return sorted(entry.path for entry in inside if fits(entry.name) and not is_folder(entry))

    def folders(self, folder: str | Path) -> Iterator[str]:
        """A folder and all folders below it. Raises as above."""
        itself = _identity(folder)
        if itself in self._walked:
            self.repeats.append((str(folder), self._walked[itself]))
            return
        self._walked[itself] = str(folder)
        self._paths.setdefault(itself, str(folder))
        waiting, links = [str(folder)], list[str]()
        while waiting or links:
            # links come last, so that a folder is entered by its own path where it has one here
            current = waiting.pop() if waiting else links.pop()
            if current != str(folder) and not self._is_new(current):
                continue
            yield current
            for entry in entries(current):
                if is_folder(entry) and not entry.name.startswith("."):
                    (links if entry.is_symlink() else waiting).append(entry.path)

    def _is_new(self, folder: str) -> bool:
        """Whether a folder was not entered before; remembers it."""
        itself = _identity(folder)
        if itself in self._paths:
            self.repeats.append((folder, self._paths[itself]))
            return False
        self._paths[itself] = folder
        return True


def above(folder: Path) -> list[Path]:
    """A folder and all folders above it, links resolved."""
    whole = folder.resolve()
    return [whole, *whole.parents]


def _identity(folder: str | Path) -> Identity:
    """What a folder is, by whatever path or link it is reached: its device and its number there."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What a folder holds.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as inside:
            return list(inside)
    except OSError as error:
        raise DataError(
            f"list the files in {shown(str(folder))}",
            why=error.strerror or str(error),
            fix="make the folder readable, or move it elsewhere",
        ) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reading the file will say so
        return False
