"""The store of an experiment's results: a folder with one immutable JSON file per finished cell.

A file is named by its cell's key and written whole or not at all, so a run can stop anywhere. Stores of two machines
are put together by copying one folder's files into the other.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from rmeeto.errors import RunError
from rmeeto.experiments.cell import Cell, key_of
from rmeeto.experiments.nats import Nats
from rmeeto.experiments.pictures import Pictures
from rmeeto.files import durable
from rmeeto.files.jsontext import to_json
from rmeeto.files.paths import read_text

FORMAT = 1
LOCK = ".lock"
LATER = {"nats": Nats.read, "pictures": Pictures.read}  # fields that only files of these works have


@dataclass(frozen=True)
class Speed:
    """How fast a model is, round by round, and how fast the unreduced model is that took turns with it."""

    batch: int
    images_per_second: tuple[float, ...]
    unreduced: tuple[float, ...]


@dataclass(frozen=True)
class Result:
    """What one cell gave.

    key, identity: the cell's. top1_percent, loss, images: over the validation images; ``correct`` holds one bit per
    image, in the order of the data, packed and in base64. speed, nats, pictures: of a cell of that work, which has no
    accuracy.
    seconds: that the cell took, the training of its base model excluded. weights: SHA-256 of the scored weights.
    backend: the kernels that computed. versions, commit, machine: what it ran with and where.
    """

    key: str
    identity: dict[str, Any]
    top1_percent: float | None
    loss: float | None
    images: int
    correct: str | None
    speed: Speed | None
    seconds: float
    weights: str
    backend: str
    versions: dict[str, str]
    commit: str | None
    machine: dict[str, Any]
    nats: Nats | None = None
    pictures: Pictures | None = None

    def bits(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether each validation image was classified correctly, ``(images,)``."""
        assert self.correct is not None, "the cell has no accuracy"
        packed = np.frombuffer(base64.b64decode(self.correct), dtype=np.uint8)
        return np.unpackbits(packed, count=self.images).astype(bool)


def packed(correct: np.ndarray[Any, np.dtype[np.bool_]]) -> str:
    """One bit per image, in base64."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode("ascii")


class Store:
    """Finished cells in a folder.

    problems: file name and reason of every file that is damaged or holds another cell than its name says. They are
    left alone, and their cells count as not done.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: dict[str, str] = {}
        self._results: dict[str, Result] = {}
        self.read()

    def read(self) -> None:
        """Take up what is in the folder now."""
        for path in sorted(self.folder.glob("*.json")):
            try:
                self._results[path.stem] = read_result(path)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
                self.problems[path.name] = f"{type(error).__name__}: {str(error)[:200]}"

    def __len__(self) -> int:
        return len(self._results)

    def find(self, cell: Cell) -> Result | None:
        """The cell's result; None if it has not been run, or its file is damaged."""
        return self.of_key(cell.key)

    def of_key(self, key: str) -> Result | None:
        """The result of the cell with this key; None as :meth:`find`."""
        return self._results.get(key)

    def add(self, cell: Cell, result: Result) -> None:
        """Keep a result, durably.

        Raises:
            RunError: the disk refuses it; no other cell is touched.
        """
        content = {name: value for name, value in asdict(result).items() if name not in LATER or value is not None}
        durable.write_text(self.folder / f"{cell.key}.json", to_json({"format": FORMAT, **content}) + "\n")
        self.problems.pop(f"{cell.key}.json", None)
        self._results[cell.key] = result

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the store. The lock dies with the process.

        Raises:
            RunError: another run has it, or the folder cannot be written.
        """
        lock = FileLock(self.folder / LOCK, timeout=0)
        try:
            durable.make_folder(self.folder)
            lock.acquire()
        except Timeout:
            raise RunError(
                f"run cells into {self.folder}",
                why="another run is writing to this store",
                fix="wait for it, or give this one a store of its own (--store) and copy its files over later",
            ) from None
        except OSError as error:
            raise RunError(f"write to {self.folder}", why=str(error), fix="choose another store (--store)") from error
        try:
            yield
        finally:
            lock.release()


def check_types(result: Result) -> None:
    """Raise ValueError unless a result holds what its kind of cell has, or else an accuracy of every image."""
    work = result.identity["work"]
    measured = {"speed": result.speed, "nats": result.nats, "pictures": result.pictures}
    for name, value in measured.items():
        if (value is not None) != (work == name):
            raise ValueError(f"a cell of {name}, and no other, has {name}")
    if result.speed is not None:
        rates = (*result.speed.images_per_second, *result.speed.unreduced)
        if len(rates) < 4 or not all(isinstance(rate, float) and rate > 0 for rate in rates):
            raise ValueError("its speeds are not numbers above zero")
    elif work in measured:
        pass  # checked when they were read
    elif not isinstance(result.top1_percent, float) or not isinstance(result.correct, str) or result.images < 1:
        raise ValueError("its accuracy is missing")
    elif (result.images + 7) // 8 != len(base64.b64decode(result.correct)):
        raise ValueError("it does not hold one bit per image")
    if not isinstance(result.seconds, float | int) or not isinstance(result.machine, dict):
        raise ValueError("its seconds or its machine are of the wrong kind")


def read_result(path: Path) -> Result:
    """A result from its file.

    Raises:
        OSError, ValueError, KeyError, TypeError: the file is damaged, or is not the cell that its name says.
    """
    content = json.loads(read_text(path))
    if content.pop("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    if (speed := content["speed"]) is not None:
        content["speed"] = Speed(speed["batch"], tuple(speed["images_per_second"]), tuple(speed["unreduced"]))
    for name, read in LATER.items():
        if name in content:
            content[name] = read(content[name])
    result = Result(**content)
    check_types(result)
    if result.key != path.stem or result.key != key_of(result.identity):
        raise ValueError("it holds another cell than its name says")
    if result.correct is not None and round(result.bits().mean() * 100, 6) != round(result.top1_percent or 0.0, 6):
        raise ValueError("its accuracy is not that of its images")
    return result
