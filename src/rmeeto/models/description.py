"""What a model's name stands for, read without building it (or loading timm)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmeeto.config import DynamicConfig, ModelConfig, TransformerConfig
from rmeeto.errors import CheckpointError, ConfigError, RmeetoError, UnknownName
from rmeeto.files import paths
from rmeeto.files.run_files import why_no_model
from rmeeto.models import checkpoint, zoo


@dataclass(frozen=True)
class Description:
    """A model that has not been built.

    name: of the zoo, or the one it was saved under. config: its sizes. reduction: the line saved with it.
    folder: where it was saved, None for one of the zoo. pretrained: address of the zoo's weights, if they exist.
    dynamic: of a Dynamic Vision Mamba, the shares that it has learned to run. class_names: saved with it, by label.
    """

    name: str
    config: ModelConfig | TransformerConfig
    reduction: str | None = None
    folder: Path | None = None
    pretrained: str | Path | None = None
    dynamic: DynamicConfig | None = None
    class_names: tuple[str, ...] | None = None


def describe(name: str) -> Description:
    """Look up a name, or read the folder that a path or ``hf-hub:owner/name[@revision]`` stands for.

    A name that the zoo does not have may be one of timm's Transformers; only then is timm loaded.

    Raises:
        UnknownName: no such model, with the nearest that exist.
        CheckpointError: a folder that does not say what is in it.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(
            "build a model",
            given=f"{name!r} as its name",
            why="a name, a folder or an address is a string that is not empty",
            fix="rmeeto models lists the names",
        )
    if not is_folder(name):
        try:
            full_name, entry = zoo.find(name)
        except UnknownName:
            return _describe_transformer(name)
        hub = None if entry.hub is None else f"hf-hub:{entry.hub}"
        return Description(full_name, entry.config, pretrained=entry.packaged_path or hub)
    folder = checkpoint.resolve(name)
    content = checkpoint.read_description(folder)
    if content is None:
        if (why := why_no_model(folder)) is not None:
            raise CheckpointError(
                f"read the model in {name}",
                why=f"there is none yet: {why}",
                fix=f"go on with the run: rmeeto retrain … --output {name} --resume",
            )
        raise CheckpointError(
            f"read the model in {name}",
            why=f"there is no {checkpoint.CONFIG} beside the weights to say what it is",
            fix=f"name the model and pass {name} as its weights",
        )
    try:
        config = read_sizes(content["config"])
        dynamic = DynamicConfig(**content["dynamic"]) if "dynamic" in content else None
        line, own_name = content.get("reduction"), content.get("name") or folder.name
        if not isinstance(line, str | None) or not isinstance(own_name, str):
            raise TypeError(f"its name is {own_name!r}, its reduction {line!r}")
        names = content.get("class_names")
        if names is not None and not (isinstance(names, list) and all(isinstance(each, str) for each in names)):
            raise TypeError("its class_names are not a list of names")
    except (KeyError, TypeError, ValueError, AttributeError, RmeetoError) as error:
        raise CheckpointError(
            f"read the model in {name}",
            why=f"its {checkpoint.CONFIG} does not describe one ({reason(error)})",
            fix=f"restore the file, or name the model and pass {name} as its weights",
        ) from error
    class_names = None if names is None else tuple(names)
    return Description(own_name, config, line, folder, dynamic=dynamic, class_names=class_names)


def reason(error: Exception) -> str:
    """What was wrong, on one line."""
    if isinstance(error, KeyError):
        return f"there is nothing under {error}"
    if isinstance(error, RmeetoError):
        return "; ".join(filter(None, (error.asked, error.given, error.why)))
    return str(error)


def _describe_transformer(name: str) -> Description:
    from rmeeto.models.vit import named

    if not named.is_named(name):
        zoo.find(name)  # which knows the nearest names
    return Description(name, named.describe(name), pretrained=named.address(name))


def read_sizes(values: Mapping[str, Any]) -> ModelConfig | TransformerConfig:
    """The sizes that ``dataclasses.asdict`` made plain values of."""
    return TransformerConfig(**values) if "architecture" in values else ModelConfig().changed(**dict(values))


def is_folder(name: str) -> bool:
    """Whether a name stands for a saved model rather than one of the zoo."""
    return name.startswith(("hf-hub:", "local-dir:")) or paths.is_folder(name)
