"""Saved models: where they are, and what is written beside their weights."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from rmeeto.errors import CheckpointError, RmeetoWarning
from rmeeto.files.durable import NewFile, write_file, write_text
from rmeeto.files.paths import given_path, read_text
from rmeeto.models.seal import read_seal, seal, unsealed
from rmeeto.models.weight_file import WEIGHTS as WEIGHTS
from rmeeto.models.weight_file import StateDict
from rmeeto.models.weight_file import read_weights as read_weights

CONFIG = "config.json"
PATTERNS = [CONFIG, "*.safetensors", "*.pth", "*.bin"]  # what is downloaded of a repository
WEIGHTS_HASH = "weights_sha256"  # in config.json: which weights it belongs to


def resolve(source: str | Path, cache_dir: str | Path | None = None) -> Path:
    """The local file or folder behind a path, ``local-dir:PATH`` or ``hf-hub:owner/name[/file][@revision]``.

    cache_dir: where downloads are kept instead of the hub's own cache.

    Raises:
        CheckpointError: nothing there, or the hub cannot be reached.
    """
    text = str(source)
    if text.startswith("hf-hub:"):
        return _from_hub(text.removeprefix("hf-hub:"), cache_dir)
    path = given_path(text.removeprefix("local-dir:"), "load weights", CheckpointError)
    if not path.exists():
        raise CheckpointError(
            f"load weights from {text}",
            why="there is no such file or folder",
            fix="give a .safetensors or .pth file, a folder that rmeeto saved, or hf-hub:owner/name",
        )
    return path


def _from_hub(address: str, cache_dir: str | Path | None) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = address.partition("@")
    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    options: dict[str, Any] = {"revision": revision or None, "cache_dir": cache_dir}
    try:
        if file:
            return Path(hf_hub_download(f"{owner}/{repository}", file, **options))
        return Path(snapshot_download(f"{owner}/{repository}", allow_patterns=PATTERNS, **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        message = str(error).strip() or "no further message"
        raise CheckpointError(
            f"download hf-hub:{address}",
            why=f"the hub did not deliver it ({type(error).__name__}: {message.splitlines()[0][:200]})",
            fix="check the name and the network, or download the file by hand and pass its path as weights",
        ) from error


def read_config(folder: Path) -> dict[str, Any] | None:
    """The ``config.json`` that :func:`save_model` wrote into a folder, or None if the folder has none.

    Raises:
        CheckpointError: it cannot be read, or is no JSON object.
    """
    path = folder / CONFIG
    if not folder.is_dir() or not os.path.lexists(path):
        return None
    asked, fix = f"read {path}", "restore the file, or give the model's name and this folder as its weights"
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise CheckpointError(asked, why=error.strerror or str(error), fix=fix) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(asked, why=f"it is not JSON ({error})", fix=fix) from error
    if not isinstance(content, dict):
        raise CheckpointError(asked, given=type(content).__name__, why="it holds no names with values", fix=fix)
    return content


def read_description(folder: Path) -> dict[str, Any] | None:
    """What :func:`save_model` wrote about the model in a folder; None if neither its files nor config.json have it.

    That is the content of ``config.json``. A kill while a model is replaced may leave one that belongs to the model
    before it; then the description inside the weights holds.
    """
    content, sealed = read_config(folder), read_seal(folder / WEIGHTS)
    if sealed is None or not isinstance(content, dict | None):
        return content
    sha256, inside = sealed
    if content is None or content.get(WEIGHTS_HASH, sha256) != sha256:
        return inside
    changed = [key for key, value in inside.items() if content.get(key) != value]
    if changed:
        say(
            f"{folder / CONFIG} was changed since the weights were saved with it ({', '.join(changed)}); it is followed"
        )
    return content


def class_count(state: StateDict) -> int | None:
    """How many classes the head in a state dict has."""
    weight = state.get("head.weight")
    return None if weight is None or weight.dim() != 2 else int(weight.shape[0])


def say(text: str) -> None:
    """Warn the caller of ``create_model``, which is two functions away."""
    warnings.warn(text, RmeetoWarning, stacklevel=5)


def save_model(
    model: nn.Module, folder: str | Path, *, name: str | None = None, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write ``config.json`` (sizes, reduction, class names) and ``model.safetensors`` (weights, metadata) to a folder.

    What was there before stays until the new weights are complete on the disk. They hold their own SHA-256, which is
    checked whenever they are loaded, and the content of ``config.json`` (see :mod:`rmeeto.models.seal`).
    ``rmeeto.create_model(folder)`` builds the same model again, reduction included; of a Dynamic Vision Mamba,
    :func:`rmeeto.models.dyvm.load_dynamic`.

    Raises:
        RunError: the disk refuses it; the folder holds the old model or the new one, whole.
    """
    folder = Path(folder)
    reduction, dynamic = getattr(model, "reduction", None), getattr(model, "dynamic", None)
    config: Any = model.config
    content = {
        "name": name,
        "family": (dynamic or config).family,
        "reduction": None if reduction is None else str(reduction),
        "config": asdict(config),
    }
    names = getattr(model, "class_names", None)
    if names is not None:
        content["class_names"] = list(names)
    if dynamic is not None:
        content["dynamic"] = asdict(dynamic)
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    texts = unsealed({"format": "pt", **(metadata or {})}, content)
    header, rest, sha256 = seal(save(state, metadata=texts))

    def write(file: NewFile) -> None:
        file.write(header)
        file.write(rest)

    write_file(folder / WEIGHTS, write)
    write_text(folder / CONFIG, json.dumps({**content, WEIGHTS_HASH: sha256}, indent=2) + "\n")
    return folder
