"""Feature maps of a reduced Transformer over the full grid of patches, after any block, in timm's formats."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from timm.models.vision_transformer import VisionTransformer

from rmeeto.models.maps import check_format, chosen_blocks
from rmeeto.reduction.tokens import Tokens


def intermediates(
    model: VisionTransformer,
    walk: Iterator[Tokens],
    grid: tuple[int, int],
    indices: int | list[int] | None,
    *,
    return_prefix_tokens: bool = False,
    norm: bool = False,
    stop_early: bool = False,
    output_fmt: str = "NCHW",
    intermediates_only: bool = False,
    output_dict: bool = False,
) -> Any:
    """timm's ``forward_intermediates`` of a reduced model; its options mean what they mean there.

    Every row of a map is the token that its patch was merged into; dropped patches get zeros.

    walk: the tokens that leave each block. grid: rows and columns of patches.

    Raises:
        UnknownName: another output format. ConfigError: a block that the network does not have.
    """
    check_format(output_fmt)
    chosen = chosen_blocks(len(model.blocks), indices)
    end = max(chosen) + 1 if stop_early else len(model.blocks)
    taken = []
    for number, tokens in enumerate(islice(walk, end)):
        if number in chosen:
            taken.append(tokens.unmerge(model.norm(tokens.x) if norm else tokens.x))
    rows = tokens.unmerge(model.norm(tokens.x))
    first = model.num_prefix_tokens
    prefix, maps = [values[:, :first] for values in taken], [values[:, first:] for values in taken]
    if output_fmt == "NCHW":
        maps = [values.transpose(1, 2).reshape(len(values), -1, *grid) for values in maps]
    if output_dict:
        with_prefix = {"image_intermediates_prefix": prefix} if first and return_prefix_tokens else {}
        final = {} if intermediates_only else {"image_features": rows}
        return {"image_intermediates": maps, **with_prefix, **final}
    found: list[Any] = list(zip(maps, prefix, strict=True)) if first and return_prefix_tokens else list(maps)
    return found if intermediates_only else (rows, found)
