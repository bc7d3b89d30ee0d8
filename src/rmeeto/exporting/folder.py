"""The folder that an export writes: names of its files, and those that every format has."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from rmeeto.data import Preparation
from rmeeto.errors import ConfigError, RunError
from rmeeto.evaluation.prediction import class_names
from rmeeto.exporting.standalone import prepare
from rmeeto.files.durable import make_folder, write_text
from rmeeto.files.jsontext import to_json
from rmeeto.files.paths import given_path
from rmeeto.models.reducible import ReducibleModel

LABELS, PREPARATION, RUN, PARITY, README = "labels.json", "preprocess.json", "run.py", "parity.json", "README.md"
IMPORTS_OF_OURS = "from rmeeto."
SOURCE_MAP_TEXT = (  # of a README
    "A second output, `source_map`, int64 `(images, {tokens})`, says which of the tokens that are left holds\n"
    "each token that entered; -1 is one that was dropped.\n"
)


def free_folder(path: str | Path) -> Path:
    """The path of a folder that is empty or missing. Nothing is written.

    Raises:
        ConfigError: there is something in it.
    """
    folder = given_path(path, f"export to {path}", ConfigError)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"export to {path}",
            why="there is something there already",
            fix="name a folder that is empty or does not exist yet",
        )
    return folder


def made_folder(folder: Path) -> Path:
    """Make a folder, with those around it.

    Raises:
        RunError: the system refuses it.
    """
    try:
        make_folder(folder)
    except OSError as error:
        raise RunError(
            f"export to {folder}", why=f"the folder cannot be made: {error.strerror}", fix="name another one"
        ) from error
    return folder


@contextmanager
def whole_or_nothing(folder: Path) -> Iterator[None]:
    """What fills a free folder: if it does not get to its end, the folder is as free as before.

    Without this, an export that was interrupted or met a full disk would stand in the way of the next one.
    """
    existed = folder.exists()
    try:
        yield
    except BaseException:
        for one in folder.iterdir() if folder.exists() else ():
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        if folder.exists() and not existed:
            folder.rmdir()
        raise


def write_common(folder: Path, model: ReducibleModel, *, batch: int | None, labels: list[str] | None = None) -> None:
    """Write what every format has: names of the classes, and how inputs are prepared."""
    names = labels or [*(model.class_names or class_names(model.num_classes))]
    write_text(folder / LABELS, to_json(names, indent=1) + "\n")
    write_text(folder / PREPARATION, json.dumps(preparation(model, batch), indent=1) + "\n")


def preparation(model: ReducibleModel, batch: int | None) -> dict[str, Any]:
    """How inputs are prepared, in plain values. batch: inputs at a time, None if any number is taken."""
    how = Preparation.of(model)
    return {
        "channels": how.channels,
        "frames": how.frames,
        "size": list(how.size),
        "mean": list(how.mean),
        "std": list(how.std),
        "crop_pct": how.crop_pct,
        "resampling": "bicubic" if how.interpolation == "random" else how.interpolation,
        "batch": batch,
    }


def write_run(folder: Path, runtime: ModuleType) -> None:
    """Write ``run.py``: the preparation of inputs and a runtime's part as one file that imports nothing of ours."""
    first, second = inspect.getsource(prepare), inspect.getsource(runtime)
    body = second.split('"""', 2)[2]  # its docstring is about this package
    lines = (line for line in body.splitlines() if not line.startswith((IMPORTS_OF_OURS, "from __future__")))
    own = Script.of(first)
    other = Script.of("\n".join(lines))
    write_text(folder / RUN, own.joined(other))


@dataclass(frozen=True)
class Script:
    """A module in two parts. head: docstring and imports. body: what follows."""

    head: tuple[str, ...]
    body: tuple[str, ...]

    @classmethod
    def of(cls, source: str) -> Script:
        """Part a module behind its last import, if it has any."""
        lines = source.splitlines()
        imports = [number for number, line in enumerate(lines) if line.startswith(("import ", "from "))]
        last = max(imports, default=-1)
        return cls(tuple(lines[: last + 1]), tuple(lines[last + 1 :]))

    def joined(self, other: Script) -> str:
        """Both as one module: all imports first, each once."""
        new = [line for line in other.head if line and line not in self.head]
        own = "\n".join([*self.head, *new, *self.body]).rstrip()
        return own + "\n\n\n" + "\n".join(other.body).strip() + "\n"
