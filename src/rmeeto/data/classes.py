"""Names of classes from a file beside the lists of a data set."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from rmeeto.errors import DataError

DELIMITERS = {".tsv": "\t", ".csv": ","}
INDEX_COLUMNS = ("index", "id", "label")
NAME_COLUMNS = ("name", "dir", "class")  # the first that is there is what people are shown


@dataclass(frozen=True)
class Classes:
    """names: by label. labels: by every name that a class goes by."""

    names: tuple[str, ...]
    labels: dict[str, int]


def read_classes(folder: Path) -> Classes | None:
    """Read ``classes.tsv`` or ``classes.csv`` (columns index, name and perhaps dir) or ``classes.txt`` (names).

    Returns None where there is none of them.

    Raises:
        DataError: columns are missing, or the indices are not 0, 1, 2 … each once.
    """
    for ending, delimiter in DELIMITERS.items():
        if (path := folder / f"classes{ending}").is_file():
            return _from_table(path, delimiter)
    if (path := folder / "classes.txt").is_file():
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        return Classes(tuple(names), {name: label for label, name in enumerate(names)})
    return None


def _from_table(path: Path, delimiter: str) -> Classes:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        columns = reader.fieldnames or ()
        index_column = next((name for name in INDEX_COLUMNS if name in columns), None)
        name_columns = [name for name in NAME_COLUMNS if name in columns]
        if index_column is None or not name_columns:
            raise _refusal(path, 1, f"columns {', '.join(columns) or 'none'}")
        names: list[str] = []
        labels: dict[str, int] = {}
        for row in reader:
            if row[index_column] != str(len(names)):
                raise _refusal(path, reader.line_num, f"{index_column} {row[index_column]} after {len(names)} classes")
            labels |= {row[column]: len(names) for column in name_columns}
            names.append(row[name_columns[0]])
    return Classes(tuple(names), labels)


def _refusal(path: Path, line: int, given: str) -> DataError:
    return DataError(
        f"read the classes in {path}",
        given=f"line {line}: {given}",
        why="it has one class a line, numbered 0, 1, 2 … in order, under a header such as index, name",
    )
