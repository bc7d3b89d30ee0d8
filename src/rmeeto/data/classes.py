"""Names of classes from a file beside the lists of a data set."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rmeeto.errors import DataError

DELIMITERS = {".tsv": "\t", ".csv": ","}
INDEX_COLUMNS = ("index", "id", "label")
NAME_COLUMNS = ("name", "dir", "class")  # the first one present is shown to people


@dataclass(frozen=True)
class Classes:
    """names: by label. labels: by every name that one class alone goes by. shared: names of several classes."""

    names: tuple[str, ...]
    labels: dict[str, int]
    shared: frozenset[str] = frozenset()


def read_classes(folder: Path) -> Classes | None:
    """Read ``classes.tsv`` or ``classes.csv`` (columns index, name and perhaps dir) or ``classes.txt`` (names).

    Returns None if the folder has none of them.

    Raises:
        DataError: not text in UTF-8, columns are missing, or the indices are not 0, 1, 2 … each once.
    """
    for ending, delimiter in DELIMITERS.items():
        if (path := folder / f"classes{ending}").is_file():
            return _numbered(_table(path, _text(path), delimiter))
    if (path := folder / "classes.txt").is_file():
        return _numbered([name] for line in _text(path).splitlines() if (name := line.strip()))
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"read the classes in {path}", why=f"it is not text in UTF-8 ({error})", fix="save it as UTF-8"
        ) from error


def _numbered(classes: Iterable[Sequence[str]]) -> Classes:
    """Classes in the order of their labels, each by the names that it goes by, the one to show first."""
    names: list[str] = []
    labels: dict[str, int] = {}
    shared: set[str] = set()
    for label, known_as in enumerate(classes):
        names.append(known_as[0])
        shared |= {name for name in known_as if labels.setdefault(name, label) != label}
    return Classes(
        tuple(names), {name: label for name, label in labels.items() if name not in shared}, frozenset(shared)
    )


def _table(path: Path, text: str, delimiter: str) -> Iterator[list[str]]:
    """The names in each row of a table, the one to show first."""
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    try:
        columns = reader.fieldnames or ()
        index_column = next((name for name in INDEX_COLUMNS if name in columns), None)
        name_columns = [name for name in NAME_COLUMNS if name in columns]
        if index_column is None or not name_columns:
            raise _refusal(path, 1, f"columns {', '.join(columns) or 'none'}")
        for label, row in enumerate(reader):
            if row[index_column] != str(label):
                raise _refusal(path, reader.line_num, f"{index_column} {row[index_column]} after {label} classes")
            names = [row[column] for column in name_columns]
            if not all(names):
                raise _refusal(path, reader.line_num, f"no name for class {label}")
            yield names
    except csv.Error as error:
        raise _refusal(path, reader.line_num, str(error)) from error


def _refusal(path: Path, line: int, given: str) -> DataError:
    return DataError(
        f"read the classes in {path}",
        given=f"line {line}: {given}",
        why="it has one class a line, numbered 0, 1, 2 … in order, under a header such as index, name",
    )
