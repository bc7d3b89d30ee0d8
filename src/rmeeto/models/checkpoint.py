"""Weight files: official Vim and VideoMamba checkpoints, anybody's retrained ones and our own.

They are read safely, adapted aloud and fitted strictly.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from rmeeto.config import ModelConfig, PositionInterpolation
from rmeeto.errors import CheckpointError, RmeetoWarning
from rmeeto.files.durable import NewFile, write_file, write_text
from rmeeto.files.paths import given_path, read_text
from rmeeto.models import zoo
from rmeeto.models.layers import inflate, resize_position_embedding, resize_temporal_embedding
from rmeeto.models.seal import read_seal, seal, unsealed
from rmeeto.models.weight_file import WEIGHTS as WEIGHTS
from rmeeto.models.weight_file import StateDict, check_dtypes, stored_numbers
from rmeeto.models.weight_file import read_weights as read_weights

CONFIG = "config.json"
WEIGHTS_HASH = "weights_sha256"  # in config.json: which weights it belongs to
PATCHES, POSITIONS = "patch_embed.proj.weight", "pos_embed"
TEMPORAL, REGISTERS = "temporal_pos_embedding", "reg_token"
FAMILIES = {
    "middle": "a Vim (class token in the middle, directions averaged)",
    "first": "a VideoMamba (class token first, directions added)",
}
DIFF_LINES = 12
SMALL_NETWORK = 10_000_000  # parameters: may be built even if the weights then do not fit
SIZE_RATIO = 8  # a larger head, position table or number of registers may be added to weights
INTERPOLATIONS: dict[PositionInterpolation, str] = {
    "bicubic": "bicubic as the official programs do (position_interpolation='antialiased' is timm's way)",
    "antialiased": "antialiased as timm does (position_interpolation='bicubic' is the official programs' way)",
}


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
    try:
        if file:
            return Path(hf_hub_download(f"{owner}/{repository}", file, revision=revision or None, cache_dir=cache_dir))
        patterns = [CONFIG, "*.safetensors", "*.pth", "*.bin"]
        return Path(
            snapshot_download(
                f"{owner}/{repository}", revision=revision or None, allow_patterns=patterns, cache_dir=cache_dir
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        message = str(error).strip() or "no further message"
        raise CheckpointError(
            f"download hf-hub:{address}",
            why=f"the hub did not deliver it ({type(error).__name__}: {message.splitlines()[0][:200]})",
            fix="check the name and the network, or download the file by hand and pass its path as weights",
        ) from error


def read_config(folder: Path) -> dict[str, Any] | None:
    """The ``config.json`` that :func:`save_model` wrote into a folder, or None where there is none.

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
    """What :func:`save_model` said about the model in a folder; None where it is said nowhere.

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
        _say(
            f"{folder / CONFIG} was changed since the weights were saved with it ({', '.join(changed)}); it is followed"
        )
    return content


def class_count(state: StateDict) -> int | None:
    """How many classes the head in a state dict has."""
    weight = state.get("head.weight")
    return None if weight is None or weight.dim() != 2 else int(weight.shape[0])


def register_count(state: StateDict) -> int | None:
    """How many registers a state dict has; None where it has none."""
    tokens = state.get(REGISTERS)
    return None if tokens is None or tokens.dim() != 3 else int(tokens.shape[1])


def check_size(state: StateDict, config: ModelConfig, source: str | Path) -> None:
    """Refuse sizes that are far from the weights', before a network of these sizes fills the memory.

    Raises:
        CheckpointError: the network would have many times as many numbers as the weights, or other widths.
    """
    held, expected = stored_numbers(state), config.parameters
    if expected > SMALL_NETWORK and expected > SIZE_RATIO * held:
        raise CheckpointError(
            f"load weights from {source}",
            given=f"{held:,} numbers for a model of {expected:,}",
            why="so few weights cannot be those of a model of this size",
            fix=_family(state),
        )


def fit(
    state: StateDict, config: ModelConfig, likely_grid: tuple[int, int], source: str | Path = "a state dict"
) -> StateDict:
    """Adapt a state dict to a config, saying every change aloud (:class:`RmeetoWarning`).

    Patches get weights for another number of channels, image weights become a clip model's, position tables are
    resampled for another grid or number of frames, a head of another class count is dropped, and so is the second head
    that VideoMamba's self-distillation leaves behind.
    Registers that the weights have not are left as the model made them.

    likely_grid: patches per column and row that the table was made for, if their number fits it; else it is taken
        for a square.
    source: where the weights come from, for messages.

    Raises:
        CheckpointError: what would have to be adapted is not of floating-point numbers.
    """
    state = dict(state)
    check_dtypes(state, (PATCHES, TEMPORAL, POSITIONS, REGISTERS), source)
    _drop_distillation_head(state)
    _fit_channels(state, config)
    if config.is_video:
        _fit_time(state, config)
    _fit_grid(state, config, likely_grid)
    _fit_head(state, config)
    _fit_registers(state, config)
    return state


def _drop_distillation_head(state: StateDict) -> None:
    names = [name for name in state if name.startswith("distill_head.")]
    for name in names:
        del state[name]
    if names:
        _say("distill_head dropped: self-distillation trained with it, predictions do not use it")


def _fit_channels(state: StateDict, config: ModelConfig) -> None:
    """One channel gets the sum over all, as a grey image in colour would; others get them in turn, rescaled."""
    weight = state.get(PATCHES)
    if weight is None or weight.dim() < 4 or weight.shape[1] in (0, config.in_chans):
        return
    old, new = weight.shape[1], config.in_chans
    turn = torch.arange(new) % old
    state[PATCHES] = weight.sum(1, keepdim=True) if new == 1 else weight[:, turn] * (old / new)
    _say(f"patch embedding adapted from {old} to {new} channels, as timm does")


def _fit_time(state: StateDict, config: ModelConfig) -> None:
    weight, table = state.get(PATCHES), state.get(TEMPORAL)
    if weight is not None and weight.dim() == 4:
        state[PATCHES] = inflate(weight, config.tubelet)
        _say(f"image patches inflated for clips, an equal share to each of the {config.tubelet} frames of a patch")
        if table is None:
            state[TEMPORAL] = weight.new_zeros(1, config.time, config.dim)
            _say("temporal positions start at zero: image weights have none; train them")
    if table is not None and table.dim() == 3 and table.shape[1] not in (0, config.time):
        state[TEMPORAL] = resize_temporal_embedding(table, config.time)
        _say(f"temporal positions resampled from {table.shape[1]} to {config.time}")


def _fit_grid(state: StateDict, config: ModelConfig, likely_grid: tuple[int, int]) -> None:
    table, wanted = state.get(POSITIONS), config.grid[0] * config.grid[1]
    if (
        table is None
        or table.dim() != 3
        or table.shape[0] != 1
        or table.shape[1] in (0, wanted + 1)
        or not table.shape[2]
    ):
        return
    rows = table.shape[1] - 1
    grid = likely_grid if likely_grid[0] * likely_grid[1] == rows else (isqrt(rows), isqrt(rows))
    if grid[0] * grid[1] == rows:
        old_row = rows // 2 if config.cls_place == "middle" else 0
        state[POSITIONS] = resize_position_embedding(
            table,
            grid,
            config.grid,
            old_row=old_row,
            new_row=config.cls_row,
            interpolation=config.position_interpolation,
        )
        _say(
            f"position embedding resampled from {grid[0]}×{grid[1]} to {config.grid[0]}×{config.grid[1]} patches, "
            f"{INTERPOLATIONS[config.position_interpolation]}"
        )


def _fit_head(state: StateDict, config: ModelConfig) -> None:
    classes = class_count(state)
    if classes is None or classes == config.num_classes:
        return
    del state["head.weight"]
    state.pop("head.bias", None)
    if config.num_classes:
        _say(f"head replaced: the weights are for {classes} classes, the model for {config.num_classes}; train it")
    else:
        _say(f"head dropped: the weights have one for {classes} classes, the model has none")


def _fit_registers(state: StateDict, config: ModelConfig) -> None:
    if config.registers and REGISTERS not in state:
        _say(f"{config.registers} fresh registers added: the weights have none; train them")


def _say(text: str) -> None:
    warnings.warn(text, RmeetoWarning, stacklevel=5)  # whoever called create_model


def load_into(model: nn.Module, state: StateDict, source: str | Path) -> None:
    """Load strictly. Only a head that :func:`fit` dropped and registers may be missing.

    Raises:
        CheckpointError: with a ``+/-`` diff of the keys, and the family the file seems to belong to.
    """
    expected = model.state_dict()
    if not expected.keys() & state.keys():
        raise CheckpointError(
            f"load weights from {source}",
            given=f"{len(state)} tensors: {', '.join(list(state)[:3])}{' …' if len(state) > 3 else ''}",
            why=f"the model knows none of these names; its own are {', '.join(list(expected)[:3])} …",
            fix=_family(state),
        )
    fresh = {REGISTERS} if "head.weight" in state else {REGISTERS, "head.weight", "head.bias"}
    diff = [f"- {name} {tuple(t.shape)}" for name, t in expected.items() if name not in state and name not in fresh]
    diff += [f"+ {name} {tuple(t.shape)}" for name, t in state.items() if name not in expected]
    diff += [
        f"! {name} model {tuple(expected[name].shape)}, file {tuple(t.shape)}"
        for name, t in state.items()
        if name in expected and t.shape != expected[name].shape
    ]
    if diff:
        shown = diff[:DIFF_LINES] + ([f"… {len(diff) - DIFF_LINES} more"] if len(diff) > DIFF_LINES else [])
        raise CheckpointError(
            f"load weights from {source}",
            given=f"{len(state)} tensors for a model of {len(expected)}",
            why="they do not fit (- missing, + unknown, ! other shape):\n         " + "\n         ".join(shown),
            fix=_family(state),
        )
    check_dtypes(state, expected, source)
    model.load_state_dict(state, strict=False)


def _family(state: StateDict) -> str:
    """What a misfit's keys look like, as advice."""
    if any(".attn." in name for name in state):
        return "the file looks like a ViT or DeiT"
    token = state.get("cls_token")
    if token is not None and token.dim() and any(name.startswith("layers.") for name in state):
        likely = (token.shape[-1], TEMPORAL in state)
        names = [name for name, entry in zoo.ZOO.items() if (entry.config.dim, entry.config.is_video) == likely]
        if names:
            return f"the file looks like {' or '.join(names)}"
    return "give the model that the weights were trained for"


def say_other_family(source: Path, config: ModelConfig) -> None:
    """Say aloud that weights seem to be of the other family, Vim or VideoMamba, whose names and shapes are the same."""
    place = _cls_place(source)
    if place is not None and place != config.cls_place:
        theirs, ours = (FAMILIES[one] for one in (place, config.cls_place))
        _say(
            f"{source.name} seems to hold the weights of {theirs}, the model is {ours}: they fit, but mean other things"
        )


def _cls_place(source: Path) -> str | None:
    """Where the class token stood when weights were trained, as a config beside them or the file's name tells."""
    folder, file = (source, WEIGHTS) if source.is_dir() else (source.parent, source.name)
    if file == WEIGHTS:
        sizes = (read_config(folder) or {}).get("config")
        place = sizes.get("cls_place") if isinstance(sizes, dict) else None
        return place if place in tuple(FAMILIES) else None
    name = file.lower()
    return "first" if name.startswith("videomamba") else "middle" if name.startswith("vim_") else None


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
    reduction = getattr(model, "reduction", None)
    content = {
        "name": name,
        "reduction": None if reduction is None else str(reduction),
        "config": asdict(model.config),  # type: ignore[call-overload]
    }
    names = getattr(model, "class_names", None)
    if names is not None:
        content["class_names"] = list(names)
    dynamic = getattr(model, "dynamic", None)
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
