"""What a run must remember to go on after an interruption, in one file that is either old or new, never half."""

from __future__ import annotations

import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from rmeeto.errors import RunError
from rmeeto.models.checkpoint import write_atomically
from rmeeto.recipe import Recipe, parse_recipe
from rmeeto.training.average import WeightAverage

FORMAT = 1
# Where and how often a run writes and reads does not change what it computes.
FREE_TO_CHANGE = {"data", "output", "workers", "save_every_seconds", "log_every_steps"}


@dataclass
class Journal:
    """How far a run has come and what it has found out. Plain numbers and strings.

    step: optimiser steps done, skipped ones included; with the seed it fixes the learning rate, the images to come
    and every random draw, so no generator is saved. seconds: spent so far, over all attempts.
    data_fingerprint: of the data it began with. unreadable: times met, by ``name: reason``.
    conditions: of the last attempt, see :mod:`.conditions`. changes: of these between attempts, with their steps.
    before: scores from before training. after: one score per finished epoch.
    """

    step: int = 0
    seconds: float = 0.0
    skipped_steps: int = 0
    data_fingerprint: str = ""
    conditions: dict[str, Any] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    unreadable: dict[str, int] = field(default_factory=dict)
    before: list[dict[str, Any]] = field(default_factory=list)
    after: list[dict[str, Any]] = field(default_factory=list)


def save_state(
    path: Path, recipe: Recipe, journal: Journal, model: nn.Module, average: WeightAverage | None, optimizer: Optimizer
) -> None:
    """Write everything; what was there stays until the new file is complete.

    Raises:
        RunError: the disk refuses it.
    """
    content = {
        "format": FORMAT,
        "recipe": recipe.to_toml(),
        "journal": asdict(journal),
        "model": model.state_dict(),
        "average": None if average is None else average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a path, torch reports a full disk as an internal error
            torch.save(content, file)

    write_atomically(path, write)


def load_state(path: Path, recipe: Recipe) -> dict[str, Any]:
    """The saved content, read weights-only.

    Raises:
        RunError: the file is damaged, or the recipe has changed in a field that matters.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        saved = parse_recipe(content["recipe"])
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, this version writes {FORMAT}")
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise RunError(
            f"resume from {path}",
            why=f"the saved state cannot be read ({type(error).__name__}: {str(error).strip()[:200]})",
            fix="start again in another output folder, with weights= the last model if there is one",
        ) from error
    refuse_changes(path, saved, recipe)
    return content


def refuse_changes(path: Path, saved: Recipe, recipe: Recipe) -> None:
    """Raise :class:`RunError` when two recipes would not compute the same."""
    free = {name: getattr(recipe, name) for name in FREE_TO_CHANGE}
    differences = saved.changed(**free).differences(recipe)
    if differences:
        raise RunError(
            f"resume the run in {path.parent}",
            given="\n         ".join(differences),
            why="the recipe has changed, so the result would belong to neither",
            fix="resume with the saved recipe.toml, or start another output folder",
        )
