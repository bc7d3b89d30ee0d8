"""Predict the likeliest classes of images or clips, given files, folders or patterns.

A file that cannot be read is named and left out; the others are still predicted.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rmeeto.data.image_file import read_image_file
from rmeeto.data.media import IMAGES, Kind
from rmeeto.data.reading import file_reading
from rmeeto.data.samples import UNREADABLE, reason
from rmeeto.data.transforms import Preparation
from rmeeto.data.walk import Walk, above
from rmeeto.errors import ConfigError, DataError
from rmeeto.files.paths import given_path
from rmeeto.models.checkpoint import WEIGHTS
from rmeeto.models.inference.freezing import frozen
from rmeeto.models.reducible import ReducibleModel
from rmeeto.runtime.progress import SILENT, Progress

IMAGENET_CLASSES = 1000
GLOB_SIGNS = set("*?[")


@dataclass(frozen=True)
class Guess:
    """One class. label: its number. name: its readable name. probability: after softmax."""

    label: int
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """One file's likeliest classes, likeliest first; or why it could not be read (then ``guesses`` is empty).

    image: the file's path, also of a clip.
    """

    image: str
    guesses: tuple[Guess, ...]
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def find_files(addresses: Sequence[str], kind: Kind = IMAGES) -> list[Path]:
    """The files of one kind that files, folders (searched to the bottom) and patterns stand for, each once, in order.

    A file given by its path is taken with any ending.

    Raises:
        DataError: nothing there, or none of that kind in it.
    """
    listed: dict[Path, None] = {}
    for address in addresses:
        path = given_path(address, f"read {address}")
        if path.is_dir():
            files = [file for file in map(Path, Walk(above(path)).files(path, kind.fits)) if file.is_file()]
        elif path.exists():
            files = [path]
        elif GLOB_SIGNS & set(address):
            files = [file for file in sorted(map(Path, matches(str(path)))) if kind.fits(file.name) and file.is_file()]
        else:
            raise DataError(f"read {address}", why="there is no such file or folder", fix="check the path")
        if not files:
            raise DataError(
                f"read the {kind.many} in {address}",
                why=f"there are none ({', '.join(kind.extensions)})",
                fix=f"give {kind.many}, a folder of them, or a pattern such as 'folder/{kind.example}'",
            )
        listed.update(dict.fromkeys(files))
    return list(listed)


def matches(pattern: str) -> list[str]:
    """The paths that a shell pattern fits; ``**`` stands for any folders, each of which is entered once."""
    before, deep, behind = pattern.partition("**")
    behind = behind or os.sep + "*"
    if not deep or not behind.startswith(os.sep) or (before and not before.endswith(os.sep)):
        return glob.glob(pattern)
    bases = glob.glob(before) if before else [os.curdir]
    folders = [folder for base in bases for folder in Walk(above(Path(base))).folders(base)]
    paths = [path for folder in folders for path in matches(os.path.join(glob.escape(folder), behind[1:]))]
    return [os.path.normpath(path) for path in paths] if not before else paths


def read_image(path: Path) -> Image.Image:
    """Decode a file fully.

    Raises:
        DataError: it is missing, truncated, or no image.
    """
    try:
        return read_image_file(path)
    except UNREADABLE as error:
        raise _unreadable("image", path, error) from error


def read_clip(model: ReducibleModel, path: Path) -> Tensor:
    """A clip as a video model takes it, ``(c, t, h, w)``: the frames and the crop of an evaluation with one view.

    Raises:
        DataError: it is missing, truncated, or no video.
    """
    reading = file_reading([path], Preparation.of(model))
    try:
        return reading.transform(reading.read(0))[0]
    except UNREADABLE as error:
        raise _unreadable("clip", path, error) from error


def _unreadable(kind: str, path: Path, error: Exception) -> DataError:
    return DataError(f"read the {kind} {path}", why=reason(error), fix="restore the file, or leave it out")


def predict(
    model: ReducibleModel,
    paths: Sequence[str | Path],
    *,
    top: int = 5,
    batch_size: int = 32,
    names: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> Iterator[Prediction]:
    """Predict batch by batch, in the order of ``paths``: images, or clips for a video model.

    paths: of files; :func:`find_files` lists those of folders and patterns. names: of the classes, by label; by
    default the model's own, or :func:`class_names` of their number.

    Raises:
        ConfigError: there are more or fewer names than the model has classes.

    >>> for prediction in predict(model, find_files(["photos"])):
    ...     print(prediction.image, prediction.guesses[0].name)
    """
    if names is None:
        names = model.class_names or class_names(model.num_classes)
    if len(names) != model.num_classes:
        raise ConfigError(
            "name the classes",
            given=f"{len(names)} names, a model of {model.num_classes} classes",
            why="every class needs one name",
            fix="give the label file of the data the model was trained on, one name per line",
        )
    return _predictions(model, paths, top, batch_size, names, progress)


def _predictions(
    model: ReducibleModel,
    paths: Sequence[str | Path],
    top: int,
    batch_size: int,
    names: Sequence[str],
    progress: Progress,
) -> Iterator[Prediction]:
    reading = file_reading(paths, Preparation.of(model))
    with frozen(model), progress.task("predicting", len(paths)) as task:
        for start in range(0, len(paths), batch_size):
            batch = range(start, min(start + batch_size, len(paths)))
            inputs: dict[int, Tensor] = {}
            errors: dict[int, str] = {}
            for number in batch:
                try:
                    content = reading.read(number)
                except UNREADABLE as error:
                    errors[number] = reason(error)
                else:
                    inputs[number] = reading.transform(content)
            guesses = dict(zip(inputs, _guess(model, list(inputs.values()), top, names), strict=True))
            for number in batch:
                yield Prediction(str(paths[number]), guesses.get(number, ()), errors.get(number))
            task.advance(len(batch))


@torch.inference_mode()
def _guess(model: ReducibleModel, inputs: list[Tensor], top: int, names: Sequence[str]) -> list[tuple[Guess, ...]]:
    if not inputs:
        return []
    device = next(model.parameters()).device
    best = model(torch.cat(inputs).to(device)).float().softmax(-1).topk(min(top, model.num_classes))
    return [
        tuple(Guess(label, names[label], value) for label, value in zip(labels, values, strict=True))
        for labels, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def class_names(num_classes: int) -> list[str]:
    """ImageNet's names for a thousand classes, numbers otherwise."""
    if num_classes != IMAGENET_CLASSES:
        return [f"class {label}" for label in range(num_classes)]
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo()
    return [info.index_to_description(label) for label in range(IMAGENET_CLASSES)]


def saved_class_names(folder: Path) -> list[str] | None:
    """The names that were saved with a model's weights (metadata ``classes``, a JSON list), if any were."""
    weights = folder / WEIGHTS
    if not weights.is_file():
        return None
    try:
        with safe_open(weights, "pt") as file:
            names: list[str] | None = json.loads((file.metadata() or {}).get("classes", "null"))
    except (SafetensorError, OSError, ValueError):
        return None  # loading the model raises the error about the file
    return names


def read_class_names(path: Path) -> list[str]:
    """Names by label from a file: one per line, or a JSON list.

    Raises:
        DataError: it cannot be read or holds no names.
    """
    try:
        text = path.read_text(encoding="utf-8")
        names = json.loads(text) if path.suffix == ".json" else [line.strip() for line in text.splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(
            f"read class names from {path}", why=str(error), fix="one name per line, or a JSON list"
        ) from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise DataError(
            f"read class names from {path}",
            why="it is not a list of names",
            fix="one name per line without gaps, or a JSON list",
        )
    return names
