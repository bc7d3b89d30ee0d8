"""What a run is made of: the processes and their device, the model, and data that fit together."""

from __future__ import annotations

from accelerate import Accelerator

from rmeeto.errors import ConfigError, DataError
from rmeeto.models.factory import create_model
from rmeeto.models.reducible import ReducibleModel
from rmeeto.recipe import PUBLISHED, Recipe
from rmeeto.reduction import parse_reduction
from rmeeto.runtime.devices import find_device
from rmeeto.runtime.processes import talking


def make_accelerator(recipe: Recipe) -> Accelerator:
    """Processes and device; on a machine without a GPU, processes talk over gloo.

    Raises:
        ConfigError: an earlier run in this Python process has settled on another device.
    """
    device = find_device(recipe.device)
    with talking():
        accelerator = Accelerator(cpu=device.type == "cpu")
    if accelerator.device.type != device.type:
        raise ConfigError(
            f"train with device = {recipe.device}",
            given=f"{accelerator.device.type} in use",
            why="accelerate settles on one kind of device per Python process, at the first run",
            fix="start a new Python process",
        )
    return accelerator


def build_model(recipe: Recipe, classes: int) -> ReducibleModel:
    """The recipe's model, reduction included; one without trained weights gets a head for the data's classes."""
    own_classes = classes if recipe.from_scratch else None
    options = {
        "num_classes": recipe.num_classes or own_classes,
        "drop_path_rate": recipe.drop_path_rate,
        **dict(recipe.model_options),
    }
    published = recipe.weights == PUBLISHED
    model = create_model(
        recipe.model,
        pretrained=published,
        weights=None if published else recipe.weights,
        impl=recipe.impl,
        **options,
    )
    # assigned here, because a model folder's own reduction would stand in for "none"
    model.reduction = parse_reduction(recipe.reduction)
    return model


def check_same_classes(train: tuple[str, ...], val: tuple[str, ...], address: str) -> None:
    """Refuse data whose validation split numbers other classes.

    Raises:
        DataError: the classes differ.
    """
    if train != val:
        raise DataError(
            f"train and evaluate on {address}",
            given=f"{len(train)} classes to train on, {len(val)} to evaluate on",
            why="the two splits number different classes",
            fix="give both splits the same classes",
        )
