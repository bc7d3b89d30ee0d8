"""What a run must remember to go on after an interruption: what is in a saved state, and whether it fits the run."""

from __future__ import annotations

import pickle
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from rmeeto.errors import ConfigError, RunError, UnknownName, listed
from rmeeto.evaluation.results import Score
from rmeeto.recipe import Recipe, parse_recipe
from rmeeto.training.average import WeightAverage
from rmeeto.training.saved_states import SavedStates

FORMAT = 1
CONTENT = {"format", "recipe", "journal", "model", "average", "optimizer"}
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
    states: SavedStates,
    recipe: Recipe,
    journal: Journal,
    model: nn.Module,
    average: WeightAverage | None,
    optimizer: Optimizer,
) -> None:
    """Write everything; what was there stays until the new state is complete.

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
    # torch asks a file for write and flush alone
    states.save(lambda file: torch.save(content, file), journal.step)  # type: ignore[arg-type]


def has_usable_weights(model: nn.Module) -> bool:
    """Whether no weight is so large, or not a number, that its square is not finite.

    Every normalisation squares what the weights make, so beyond that no step can succeed.
    """
    return all(bool(weight.detach().float().square().sum().isfinite()) for weight in model.parameters())


def load_state(path: Path, recipe: Recipe) -> dict[str, Any]:
    """The saved content, read weights-only.

    Raises:
        RunError: it is no state of a run, or the recipe has changed in a field that matters.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text recommends to execute what is in the file
        raise _unusable(path, "it holds something other than tensors and plain values, or is no archive") from error
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError) as error:
        raise _unusable(path, f"it is not an archive that torch wrote ({type(error).__name__})") from error
    if not isinstance(content, dict) or not content.keys() >= CONTENT:
        missing = ", ".join(sorted(CONTENT - content.keys())) if isinstance(content, dict) else "everything"
        raise _unusable(path, f"it is not the state of a run: {missing} missing")
    if content["format"] != FORMAT:
        raise _unusable(path, f"it has format {content['format']!r}, this version reads {FORMAT}")
    try:
        saved = parse_recipe(content["recipe"])
    except (ConfigError, UnknownName, TypeError, AttributeError) as error:
        raise _unusable(path, "this version cannot read the recipe in it") from error
    refuse_changes(path, saved, recipe)
    return content


def read_journal(path: Path, content: dict[str, Any], total_steps: int) -> Journal:
    """The journal in a saved state of a run of ``total_steps``.

    Raises:
        RunError: it is not the journal of such a run.
    """
    values = content["journal"]
    kinds = {entry.name: type(getattr(Journal(), entry.name)) for entry in fields(Journal)}
    try:
        journal = Journal(**values)
        for row in (*journal.before, *journal.after):
            Score(**row)
    except TypeError as error:
        raise _unusable(path, "its journal has other entries than this version writes") from error
    for name, kind in kinds.items():
        if not isinstance(getattr(journal, name), (int, float) if kind is float else kind):
            raise _unusable(path, f"{name} in its journal is {getattr(journal, name)!r}")
    if not 0 <= journal.step <= total_steps:
        raise _unusable(path, f"it says that {journal.step} steps are done, and the whole run has {total_steps}")
    return journal


def restore(
    path: Path, content: dict[str, Any], model: nn.Module, average: WeightAverage | None, optimizer: Optimizer
) -> None:
    """Load the weights, their average and the optimiser from a saved state.

    Raises:
        RunError: it holds others than this run has.
    """
    try:
        _check_shapes(content["model"], model, "model")
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                for name, value in optimizer.state[parameter].items():
                    if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
                        raise ValueError(f"{name} of the optimiser has the shape {tuple(value.shape)}")
        if average is not None:
            _check_shapes(content["average"]["model"], average.model, "average")
            average.load_state_dict(content["average"])
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0][:200] if isinstance(error, ValueError) else type(error).__name__
        raise _unusable(path, f"it does not fit this run ({reason})") from error


def _check_shapes(saved: dict[str, Any], module: nn.Module, name: str) -> None:
    expected = module.state_dict()
    if saved.keys() != expected.keys():
        raise ValueError(f"the {name} has other weights: {sorted(saved.keys() ^ expected.keys())[0]}")
    for key, value in expected.items():
        if saved[key].shape != value.shape:
            raise ValueError(f"{key} of the {name}: {tuple(saved[key].shape)} saved, {tuple(value.shape)} here")


def _unusable(path: Path, why: str) -> RunError:
    return RunError(
        f"resume from {path}",
        why=f"the saved state cannot be used: {why}",
        fix="start again in another output folder, with weights= the last model if there is one",
    )


def refuse_changes(path: Path, saved: Recipe, recipe: Recipe) -> None:
    """Raise :class:`RunError` when two recipes would not compute the same."""
    free = {name: getattr(recipe, name) for name in FREE_TO_CHANGE}
    differences = saved.changed(**free).differences(recipe)
    if differences:
        raise RunError(
            f"resume the run in {path.parent}",
            given=listed(differences),
            why="the recipe has changed, so the result would belong to neither",
            fix="resume with the saved recipe.toml, or start another output folder",
        )
