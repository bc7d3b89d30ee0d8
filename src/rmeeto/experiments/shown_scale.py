"""What stands for the paper's models at a scale, and how it was trained, as the page shows it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rmeeto.experiments.cell import decisive
from rmeeto.experiments.plan import NONE
from rmeeto.experiments.scale import Scale
from rmeeto.experiments.store import Result
from rmeeto.recipe import Recipe

FROM_SCRATCH = "from scratch"
ALWAYS = {"epochs": "epochs", "subset": "share of the data", "batch_size": "batch", "lr": "learning rate"}
OTHERS = {  # told once if they are the same in all trainings
    "min_lr": "learning rate at the end",
    "warmup_steps": "warm-up steps",
    "weight_decay": "weight decay",
    "ema_decay": "average of weights",
    "label_smoothing": "label smoothing",
    "mixup": "mixup",
    "cutmix": "cutmix",
    "auto_augment": "auto-augment",
    "color_jitter": "color jitter",
    "random_erasing": "random erasing",
    "flip": "flip",
    "precision": "precision",
}


def stand_ins(scale: Scale, results: Iterable[Result]) -> list[tuple[str, ...]]:
    """A line for each of the paper's models: its unreduced accuracy here, what runs for it, its options, data."""
    scored = {
        base_key(one.identity): one.top1_percent
        for one in results
        if one.identity["work"] == "free" and one.identity["reduction"] == NONE
    }
    return [
        (name, accuracy_text(scored.get(key)), one.model, options_text(one.options), scale.data[one.data].title)
        for name, one in scale.models.items()
        for key in [base_key({"base": as_json(scale.base_recipe(name)), "model": one.model})]
    ]


def base_key(identity: dict[str, Any]) -> str:
    """What tells one network that nothing was done to from another."""
    return json.dumps([identity["base"], identity["model"]], sort_keys=True)


def as_json(recipe: Recipe | None) -> Any:
    """A recipe as a cell's identity has it."""
    return None if recipe is None else json.loads(json.dumps(decisive(recipe)))


def accuracy_text(percent: float | None) -> str:
    """An accuracy; empty if the store does not have it."""
    return "" if percent is None else f"{percent:.1f} %"


def options_text(options: Any) -> str:
    """A stand-in's options in words."""
    return ", ".join(f"{name} {'×'.join(map(str, v)) if isinstance(v, list) else v}" for name, v in options.items())


def trainings(scale: Scale) -> tuple[tuple[str, ...], list[tuple[str, ...]], str]:
    """Heads and lines of a table of all trainings, and a sentence about what all of them have.

    Models that are trained alike share a line.
    """
    recipes = list(all_recipes(scale))
    differing = [name for name in OTHERS if len({getattr(recipe, name) for _, _, recipe in recipes}) > 1]
    shown = [*ALWAYS, *differing]
    lines: dict[str, dict[tuple[str, ...], list[str]]] = {}
    for training, model, recipe in recipes:
        values = tuple(value_text(getattr(recipe, name)) for name in shown)
        lines.setdefault(training, {}).setdefault(values, []).append(model)
    found = [
        (training, who(models, list(groups.values())), *values)
        for training, groups in lines.items()
        for values, models in groups.items()
    ]
    names = {**ALWAYS, **OTHERS}
    alike = ", ".join(
        f"{names[name]} {value_text(getattr(recipes[0][2], name))}" for name in OTHERS if name not in differing
    )
    return ("training", "of", *(names[name] for name in shown)), found, f"All trainings: AdamW, {alike}."


def all_recipes(scale: Scale) -> Iterable[tuple[str, str, Recipe]]:
    """Each training of each model, by their names."""
    for training in (FROM_SCRATCH, *scale.trainings):
        for model in scale.models:
            base = training == FROM_SCRATCH
            recipe = scale.base_recipe(model) if base else scale.training_recipe(model, training, seed=0)
            if recipe is not None:
                yield training, model, recipe


def who(models: list[str], groups: list[list[str]]) -> str:
    """The models of one line; the longest of several lists is all others."""
    if len(groups) == 1:
        return "all models"
    return "all others" if models is max(groups, key=len) else ", ".join(models)


def value_text(value: Any) -> str:
    """A field of a recipe."""
    return "none" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)
