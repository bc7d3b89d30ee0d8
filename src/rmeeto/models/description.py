"""What a model's name stands for, read without building it (or loading timm)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmeeto.config import DynamicConfig, Sizes, check_fields
from rmeeto.errors import CheckpointError, ConfigError, RmeetoError, UnknownName
from rmeeto.files import paths
from rmeeto.files.run_files import why_no_model
from rmeeto.models import checkpoint
from rmeeto.models.described import Description as Description
from rmeeto.models.family import FAMILIES, family_of
from rmeeto.models.vim import zoo


def describe(name: str) -> Description:
    """Look up a name, or read the folder that a path or ``hf-hub:owner/name[@revision]`` stands for.

    A name that neither the zoo nor a family has may be one of timm's Transformers; only then is timm loaded.

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
        for family in FAMILIES.values():
            if name in family.names:
                return Description(name, family.names[name])
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
        config = read_sizes(content["config"], content.get("family"))
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


def read_sizes(values: Mapping[str, Any], family: object = None) -> Sizes:
    """The sizes that ``dataclasses.asdict`` made plain values of.

    family: name of theirs; files of earlier versions have none, and only Transformers have an architecture.
    """
    config = family_of(family or ("vit" if "architecture" in values else "vim")).config
    check_fields(config, values)
    sizes: Sizes = config(**values)
    return sizes


def is_folder(name: str) -> bool:
    """Whether a name stands for a saved model rather than one of the zoo."""
    return name.startswith(("hf-hub:", "local-dir:")) or paths.is_folder(name)
