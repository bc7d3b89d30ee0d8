"""Inputs for the gate: real ones, random ones, flat ones, and ones that are half flat, where similarities tie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor

from rmeeto.data import CLIPS, ImageSource, Preparation, evaluation_transform, open_data
from rmeeto.errors import DataError
from rmeeto.evaluation.prediction import find_files, read_clip, read_image
from rmeeto.models.reducible import ReducibleModel

One = TypeVar("One")
REAL = {"images": 8, "clips": 2}
RANDOM = {"images": 2, "clips": 1}


@dataclass(frozen=True)
class Inputs:
    """Prepared inputs ``(n, c, …)`` in float32, and what each is."""

    values: Tensor
    names: tuple[str, ...]


def gate_inputs(model: ReducibleModel, check: Path | Sequence[str] | None = None, count: int | None = None) -> Inputs:
    """Real, random, flat and half flat inputs.

    check: a folder (or files) with real images, or clips; by default digits that come with scikit-learn, and if it is
    not installed no real ones. count: real ones that are taken; by default 8 images or 2 clips.

    Raises:
        DataError: no such folder, nothing in it, or a file that cannot be read.
    """
    kind = Preparation.of(model).kind
    wanted = count or REAL[kind.many]
    real = list(_files(model, check, wanted) if check is not None else _digits(model, wanted))
    generator = torch.Generator().manual_seed(0)
    shape = model.config.input_size
    made = [(f"random {number}", torch.randn(shape, generator=generator)) for number in range(RANDOM[kind.many])]
    half = torch.randn(shape, generator=generator)
    half[..., shape[-1] // 2 :] = 0.5
    made += [("flat", torch.full(shape, 0.25)), ("half flat", half)]
    names, values = zip(*real, *made, strict=True)
    return Inputs(torch.stack(values), names)


def _files(model: ReducibleModel, check: Path | Sequence[str], wanted: int) -> Iterator[tuple[str, Tensor]]:
    how = Preparation.of(model)
    addresses = [str(check)] if isinstance(check, str | Path) else list(check)
    transform = evaluation_transform(how, glyphs=False)
    for path in spread(find_files(addresses, how.kind), wanted):
        yield path.name, read_clip(model, path) if how.kind is CLIPS else transform(read_image(path))


def _digits(model: ReducibleModel, wanted: int) -> Iterator[tuple[str, Tensor]]:
    """Digits in the model's size; the frames of a clip are digits that follow each other."""
    how = Preparation.of(model)
    try:
        source = cast(ImageSource, open_data("digits", "val"))
    except DataError:  # scikit-learn is not installed
        return
    transform = evaluation_transform(how, glyphs=True)
    for number in spread(range(len(source.labels)), wanted):
        frames = [transform(source.read((number + step) % len(source.labels))) for step in range(how.frames)]
        yield f"digit {number}", torch.stack(frames, dim=1) if how.kind is CLIPS else frames[0]


def spread(values: Sequence[One], count: int) -> Sequence[One]:
    """At most ``count`` of them, evenly spaced."""
    step = max(1, len(values) // count)
    return values[::step][:count]
