"""The commands that do by hand what a cell does, for reading and for other machines."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Any

from rmeeto.experiments.cell import SPEED_BATCH, SPEED_ROUNDS, SPEED_SECONDS, UNDECIDING, Cell
from rmeeto.recipe import PUBLISHED, Recipe, load_recipe

OPTIONS = {"reduction": "reduce", "batch_size": "batch"}  # that are named otherwise than their recipe field
START = "minutes"  # the shipped recipe that re-training commands start from


def command(cell: Cell, data: str) -> str | None:
    """The command for a cell of published weights; None if its base model is trained from scratch, or if it estimates.

    data: what to write for the data set. ``rmeeto table`` runs cells with a base model: their recipes have options of
    the model that no command takes. It also runs cells of mutual information, which has no command of its own.

    >>> command(cell, "imagenet")
    'rmeeto eval vim_tiny --data imagenet --reduce merge:r=5'
    """
    if cell.base is not None or cell.work == "nats":
        return None
    if cell.work == "speed":
        timing = [("batch", SPEED_BATCH), ("rounds", SPEED_ROUNDS), ("seconds", f"{SPEED_SECONDS:g}")]
        return _line("bench", cell.built, [("reduce", cell.reduction), *timing])
    if cell.training is None:
        shown = cell.work == "pictures"
        return _show(cell, cell.built, data) if shown else _line("eval", cell.built, [("data", data), *_reduce(cell)])
    folder = f"cells/{cell.key}"
    recipe = cell.training.changed(reduction=cell.reduction, data=data, weights=PUBLISHED)
    fields: list[tuple[str, Any]] = [("data", data), *_reduce(cell), ("recipe", START)]
    fields += [(name, value) for name, value in changes(recipe) if name != "reduce"]
    line = _line("retrain", cell.built, [*fields, ("output", folder)])
    return f"{line} && {_show(cell, folder, data)}" if cell.work == "pictures" else line


def changes(recipe: Recipe) -> list[tuple[str, Any]]:
    """Options that make the starting recipe into this one."""
    own, start = asdict(recipe), asdict(load_recipe(START))
    skipped = UNDECIDING | {"model_options", "weights"}
    return [
        (OPTIONS.get(name, name), "none" if value is None else value)
        for name, value in own.items()
        if name not in skipped and value != start[name]
    ]


def _show(cell: Cell, model: str, data: str) -> str:
    """Draw the merged patches of images or clips; ``rmeeto show`` takes the first few that it finds."""
    return f"{_line('show', model, _reduce(cell))} {data}"


def _reduce(cell: Cell) -> list[tuple[str, Any]]:
    return [("reduce", cell.reduction)]


def _line(verb: str, model: str, options: list[tuple[str, Any]]) -> str:
    words = ["rmeeto", verb, model]
    for name, value in options:
        words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
