"""MODEL on the command line: what it is, without building it; and built, with its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rmeeto.cli import console
from rmeeto.errors import CheckpointError, ConfigError, UnknownName

if TYPE_CHECKING:
    from rmeeto.models.backbone import VisionMamba
    from rmeeto.models.config import ModelConfig
    from rmeeto.ops.select import Impl
    from rmeeto.reduction import Reduction

RANDOM = "random"


@dataclass(frozen=True)
class Description:
    """A model that has not been built. reduction: the one saved with it, as its line."""

    name: str
    config: ModelConfig
    reduction: str | None


def describe(model: str) -> Description:
    """Read what a zoo name, a folder or a hub address stands for.

    Raises:
        UnknownName, CheckpointError: no such model, or a folder without a description.
    """
    from rmeeto.models import checkpoint, zoo
    from rmeeto.models.config import ModelConfig

    if not is_folder(model):
        name, entry = zoo.find(model)
        return Description(name, entry.config, None)
    folder = checkpoint.resolve(model)
    content = checkpoint.read_config(folder)
    if content is None:
        raise CheckpointError(
            f"read the model in {model}",
            why=f"there is no {checkpoint.CONFIG} in it to say what it is",
            fix="name the model and pass the folder as --weights",
        )
    try:
        config = ModelConfig().changed(**content["config"])
    except (KeyError, TypeError, ValueError, UnknownName) as error:
        raise CheckpointError(
            f"read the model in {model}",
            why=f"its {checkpoint.CONFIG} does not describe one ({error})",
            fix="restore the file, or name the model and pass the folder as --weights",
        ) from error
    return Description(content.get("name") or folder.name, config, content.get("reduction"))


def is_folder(model: str) -> bool:
    """Whether MODEL names a saved model rather than one of the zoo."""
    return model.startswith(("hf-hub:", "local-dir:")) or Path(model).is_dir()


def build(model: str, weights: str | None, *, impl: Impl, reduction: Reduction | None = None) -> VisionMamba:
    """Build MODEL with the weights that ``--weights`` asks for: by default its published or saved ones.

    Raises:
        ConfigError: random weights for a saved model. And whatever :func:`rmeeto.create_model` raises.
    """
    from rmeeto import create_model
    from rmeeto.models import zoo

    if weights == RANDOM:
        check_may_be_random(model)
        return create_model(model, reduction=reduction, impl=impl)
    if weights is None and not is_folder(model) and zoo.find(model)[1].hub is not None:
        console.note(f"weights: hf-hub:{zoo.find(model)[1].hub}")  # a first download takes a while
    return create_model(model, pretrained=True, weights=weights, reduction=reduction, impl=impl)


def check_may_be_random(model: str) -> None:
    """Raise :class:`ConfigError` for a saved model, which always comes with its weights."""
    if is_folder(model):
        raise ConfigError(
            f"use {model} with random weights",
            why="a saved model comes with its weights",
            fix="leave --weights out, or name a model of the zoo",
        )
