"""Write a model as the C library reads it: a safetensors file whose metadata describe the model.

Tensors are named by what they are (``blocks.7.forward.x_proj``) and lie as in linear layers. Opening a file packs
them, because the packed form depends on the processor. docs/native.md describes the format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL
import torch
from safetensors.torch import save as as_bytes
from torch import Tensor, nn

from rmeeto.errors import ConfigError, UnknownName, UnsupportedInput
from rmeeto.files.durable import NewFile, write_file
from rmeeto.models.inference.conditions import MERGING
from rmeeto.models.inference.ends import embedding_table
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.models.vim.block import Block
from rmeeto.native.conditions import why_not_save
from rmeeto.ops import Matching, Neighbours, Pairing
from rmeeto.ops.packed.block import readable

VERSION = 1
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@torch.no_grad()
def save(
    model: nn.Module,
    path: str | Path,
    *,
    precision: str | None = None,
    name: str = "",
    class_names: Sequence[str] | None = None,
) -> Path:
    """Write a Vision Mamba, with its reduction, for ``rmeeto.native.load``, ``rmeeto-run`` and the C library.

    The library computes what the frozen model computes, bit by bit if one compiler built both.

    Args:
        model: not changed; its reduction is ``merge`` or ``stm`` (see ``rmeeto.native.why_not_save``), or None.
        path: of the file, usually ``NAME.rmeeto``.
        precision: ``"float32"`` or ``"bfloat16"``, what products are computed in and their weights are stored in; by
            default the model's own. Of a float32 model, bfloat16 gives what autocast to bfloat16 gives.
        name: shown to users of the file.
        class_names: by label; by default the model's own, if it has any.

    Raises:
        UnsupportedInput: the library cannot compute this model. UnknownName: another precision.
        ConfigError: more or fewer names than classes. RunError: the disk refuses the file.
    """
    reasons = [*dict.fromkeys(why_not_save(model))]
    if reasons:
        raise UnsupportedInput(
            "save a model for the native library",
            given=f"a {type(model).__name__}",
            why="; ".join(reasons),
            fix="other models and reductions run in Python, or in the formats that `rmeeto export` offers",
        )
    assert isinstance(model, VisionMamba)
    precision = str(model.cls_token.dtype).removeprefix("torch.") if precision is None else precision
    if precision not in PRECISIONS:
        raise UnknownName("precision of the native library", precision, PRECISIONS)
    names = model.class_names if class_names is None else class_names
    if names is not None and len(names) != model.num_classes:
        given = f"{len(names)} names, a model of {model.num_classes} classes"
        raise ConfigError("name the classes", given=given, why="every class needs one name")
    description = {**describe(model), "precision": precision, "class_names": None if names is None else list(names)}
    content = {"version": VERSION, "name": name, **description}
    metadata = {"format": "pt", "rmeeto": json.dumps(content, allow_nan=False)}
    data = as_bytes(tensors_of(model, PRECISIONS[precision]), metadata=metadata)

    def write(file: NewFile) -> None:
        file.write(data)

    write_file(Path(path), write)
    return Path(path)


def describe(model: VisionMamba) -> dict[str, Any]:
    """Sizes, reduction and preparation, as plain values."""
    config, (block, *_), cfg = model.config, blocks_of(model), model.pretrained_cfg
    tubelet, high, wide = (1, *model.patch_embed.proj.kernel_size)[-3:]
    height, width = config.img_size
    sizes = {"depth": len(model.layers), "dim": config.dim, "inner": config.inner, "states": config.state}
    return {
        "reduction": "" if model.reduction is None else str(model.reduction),
        "input": {"channels": config.in_chans, "frames": config.frames, "height": height, "width": width},
        "patch": {"frames": tubelet, "height": high, "width": wide},
        "sizes": {**sizes, "rank": config.rank, "taps": config.conv_width, "classes": model.head.out_features},
        "block_eps": block.norm.eps,
        "head_eps": model.norm_f.eps,
        "scale": block.mixer.scale,
        "protected": list(config.protected),
        "merge": _merging(model),
        "prepare": {
            "mean": list(cfg["mean"]),
            "std": list(cfg["std"]),
            "interpolation": cfg["interpolation"],
            "pillow": int(PIL.__version__.partition(".")[0]),  # its resizing has changed by a bit
            "resize": {name: math.floor(x / cfg["crop_pct"]) for name, x in (("height", height), ("width", width))},
        },
    }


def _merging(model: VisionMamba) -> dict[str, Any]:
    """How pairs are found, and how many merge before each block."""
    reduction = model.reduction
    pairing: Pairing | None = reduction.plain_matching() if isinstance(reduction, MERGING) else Matching()
    assert pairing is not None
    method = "neighbours" if isinstance(pairing, Neighbours) else "pairs"
    return {"method": method, "removed": list(model.schedule.counts[: len(model.layers)]), **pairing._asdict()}


def tensors_of(model: VisionMamba, dtype: torch.dtype) -> dict[str, Tensor]:
    """All weights by name: those of products in ``dtype``, all others in float32."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    table, _ = embedding_table(model)
    tensors = {
        "embed.patches": weights["patch_embed.proj.weight"].flatten(1).to(dtype),
        "embed.table": table.float(),
        "head.norm": weights["norm_f.weight"].float(),
        "head.weight": weights["head.weight"].to(dtype),
        "head.bias": weights["head.bias"].float(),
    }
    for number, block in enumerate(blocks_of(model)):
        for name, value in readable(block.mixer.block_parameters(block.norm.weight), dtype).named().items():
            tensors[f"blocks.{number}.{_named(name)}"] = value.flatten(1) if value.dim() > 2 else value
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def blocks_of(model: VisionMamba) -> list[Block]:
    """The blocks of a model that can be saved: it has no others."""
    return [layer for layer in model.layers if isinstance(layer, Block)]


def _named(name: str) -> str:
    if name in ("in_proj", "out_proj"):
        return name
    if name == "norm_weight":
        return "norm"
    return f"backward.{name.removesuffix('_b')}" if name.endswith("_b") else f"forward.{name}"
