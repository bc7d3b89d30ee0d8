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
    """The command for a cell of published weights; None if its base model is trained from scratch.

    data: what to write for the data set. ``rmeeto table`` runs cells with a base model: their recipes have options of
    the model that no command takes.

    >>> command(cell, "imagenet")
    'rmeeto eval vim_tiny --data imagenet --reduce merge:r=5'
    """
    if cell.base is not None:
        return None
    if cell.work == "speed":
        timing = [("batch", SPEED_BATCH), ("rounds", SPEED_ROUNDS), ("seconds", f"{SPEED_SECONDS:g}")]
        return _line("bench", cell.built, [("reduce", cell.reduction), *timing])
    if cell.training is None:
        return _line("eval", cell.built, [("data", data), ("reduce", cell.reduction)])
    recipe = cell.training.changed(reduction=cell.reduction, data=data, weights=PUBLISHED)
    fields: list[tuple[str, Any]] = [("data", data), ("reduce", cell.reduction), ("recipe", START)]
    fields += [(name, value) for name, value in changes(recipe) if name != "reduce"]
    return _line("retrain", cell.built, [*fields, ("output", f"cells/{cell.key}")])


def changes(recipe: Recipe) -> list[tuple[str, Any]]:
    """Options that make the starting recipe into this one."""
    own, start = asdict(recipe), asdict(load_recipe(START))
    skipped = UNDECIDING | {"model_options", "weights"}
    return [
        (OPTIONS.get(name, name), "none" if value is None else value)
        for name, value in own.items()
        if name not in skipped and value != start[name]
    ]


def _line(verb: str, model: str, options: list[tuple[str, Any]]) -> str:
    words = ["rmeeto", verb, model]
    for name, value in options:
        words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
