"""Weights of Vim and VideoMamba, the official programs' and our own, adapted to a network of other sizes."""

from __future__ import annotations

from math import isqrt
from pathlib import Path
from typing import Any

import torch

from rmeeto.config import ModelConfig, PositionInterpolation
from rmeeto.errors import CheckpointError
from rmeeto.models.checkpoint import WEIGHTS, class_count, read_config, say
from rmeeto.models.layers import inflate, resize_position_embedding, resize_temporal_embedding
from rmeeto.models.vim.zoo import REGISTERS, TEMPORAL, likely_models
from rmeeto.models.weight_file import StateDict, check_dtypes

PATCHES, POSITIONS = "patch_embed.proj.weight", "pos_embed"
CLS_PLACES = {
    "middle": "a Vim (class token in the middle, directions averaged)",
    "first": "a VideoMamba (class token first, directions added)",
}
SMALL_NETWORK = 10_000_000  # parameters: may be built even if the weights then do not fit
SIZE_RATIO = 8  # a larger head, position table or number of registers may be added to weights
INTERPOLATIONS: dict[PositionInterpolation, str] = {
    "bicubic": "bicubic as the official programs do (position_interpolation='antialiased' is timm's way)",
    "antialiased": "antialiased as timm does (position_interpolation='bicubic' is the official programs' way)",
}


def fit(config: ModelConfig, options: dict[str, Any], state: StateDict, source: Path) -> tuple[ModelConfig, StateDict]:
    """Change sizes by options, and adapt weights to them, with an :class:`RmeetoWarning` for every change.

    Classes and registers that no option names are as many as the weights have. Patches get weights for another number
    of channels, image weights become a clip model's, position tables are resampled for another grid or number of
    frames, a head of another class count is dropped, and so is the second head that VideoMamba's self-distillation
    leaves behind. Registers that the weights have not are left as the model made them.

    config: the sizes before the options. A position table is taken to be for their grid if it has as many rows, and
        else for a square. source: where the weights come from, for messages.

    Raises:
        CheckpointError: weights that are far too few, or of which a part that has to be adapted is not of
            floating-point numbers.
    """
    likely_grid, own = config.grid, {"num_classes": class_count(state), "registers": register_count(state)}
    config = config.changed(**{**options, **{name: own[name] for name in own if options.get(name) is None}})
    check_size(state, config, source)
    _say_other_family(source, config)
    state = dict(state)
    check_dtypes(state, (PATCHES, TEMPORAL, POSITIONS, REGISTERS), source)
    _drop_distillation_head(state)
    _fit_channels(state, config)
    if config.is_video:
        _fit_time(state, config)
    _fit_grid(state, config, likely_grid)
    _fit_head(state, config)
    _fit_registers(state, config)
    return config, state


def register_count(state: StateDict) -> int | None:
    """How many registers a state dict has; None if it has none."""
    tokens = state.get(REGISTERS)
    return None if tokens is None or tokens.dim() != 3 else int(tokens.shape[1])


def check_size(state: StateDict, config: ModelConfig, source: str | Path) -> None:
    """Refuse sizes that are far from the weights', before a network of these sizes fills the memory.

    Raises:
        CheckpointError: the network would have many times as many numbers as the weights, or other widths.
    """
    held, expected = sum(tensor.numel() for tensor in state.values()), config.parameters
    if expected > SMALL_NETWORK and expected > SIZE_RATIO * held:
        raise CheckpointError(
            f"load weights from {source}",
            given=f"{held:,} numbers for a model of {expected:,}",
            why="so few weights cannot be those of a model of this size",
            fix=likely_models(state),
        )


def _drop_distillation_head(state: StateDict) -> None:
    names = [name for name in state if name.startswith("distill_head.")]
    for name in names:
        del state[name]
    if names:
        say("distill_head dropped: self-distillation trained with it, predictions do not use it")


def _fit_channels(state: StateDict, config: ModelConfig) -> None:
    """One channel gets the sum over all, as a grey image in colour would; others get them in turn, rescaled."""
    weight = state.get(PATCHES)
    if weight is None or weight.dim() < 4 or weight.shape[1] in (0, config.in_chans):
        return
    old, new = weight.shape[1], config.in_chans
    turn = torch.arange(new) % old
    state[PATCHES] = weight.sum(1, keepdim=True) if new == 1 else weight[:, turn] * (old / new)
    say(f"patch embedding adapted from {old} to {new} channels, as timm does")


def _fit_time(state: StateDict, config: ModelConfig) -> None:
    weight, table = state.get(PATCHES), state.get(TEMPORAL)
    if weight is not None and weight.dim() == 4:
        state[PATCHES] = inflate(weight, config.tubelet)
        say(f"image patches inflated for clips, an equal share to each of the {config.tubelet} frames of a patch")
        if table is None:
            state[TEMPORAL] = weight.new_zeros(1, config.time, config.dim)
            say("temporal positions start at zero: image weights have none; train them")
    if table is not None and table.dim() == 3 and table.shape[1] not in (0, config.time):
        state[TEMPORAL] = resize_temporal_embedding(table, config.time)
        say(f"temporal positions resampled from {table.shape[1]} to {config.time}")


def _fit_grid(state: StateDict, config: ModelConfig, likely_grid: tuple[int, int]) -> None:
    table, patches = state.get(POSITIONS), config.grid[0] * config.grid[1]
    if table is None or table.dim() != 3 or table.shape[0] != 1 or not table.numel() or table.shape[1] == patches + 1:
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
        say(
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
        say(f"head replaced: the weights are for {classes} classes, the model for {config.num_classes}; train it")
    else:
        say(f"head dropped: the weights have one for {classes} classes, the model has none")


def _fit_registers(state: StateDict, config: ModelConfig) -> None:
    if config.registers and REGISTERS not in state:
        say(f"{config.registers} fresh registers added: the weights have none; train them")


def _say_other_family(source: Path, config: ModelConfig) -> None:
    """Warn if weights seem to be of the other family, Vim or VideoMamba, whose names and shapes are the same."""
    cls_place = _cls_place(source)
    if cls_place is not None and cls_place != config.cls_place:
        theirs, ours = (CLS_PLACES[one] for one in (cls_place, config.cls_place))
        say(
            f"{source.name} seems to hold the weights of {theirs}, the model is {ours}: they fit, but mean other things"
        )


def _cls_place(source: Path) -> str | None:
    """Where the class token stood when weights were trained, as a config beside them or the file's name tells."""
    folder, file = (source, WEIGHTS) if source.is_dir() else (source.parent, source.name)
    if file == WEIGHTS:
        sizes = (read_config(folder) or {}).get("config")
        place = sizes.get("cls_place") if isinstance(sizes, dict) else None
        return place if place in tuple(CLS_PLACES) else None
    name = file.lower()
    return "first" if name.startswith("videomamba") else "middle" if name.startswith("vim_") else None
