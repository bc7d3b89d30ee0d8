"""What the tokens of a reduced Transformer say about every patch, after any block, in timm's forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from rmeeto.models.dense import check_format, chosen_blocks

if TYPE_CHECKING:
    from rmeeto.models.vit.transformer import ReducibleTransformer


def intermediates(
    model: ReducibleTransformer,
    images: Tensor,
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

    Every row of a map is the token that its patch ended in; patches that were dropped get zeros.

    Raises:
        UnknownName: another output format. ConfigError: a block that there is not.
    """
    check_format(output_fmt)
    chosen = chosen_blocks(len(model.blocks), indices)
    end = max(chosen) + 1 if stop_early else len(model.blocks)
    rows, taken = images, []
    for number, tokens in enumerate(model.walk(images)):
        if number in chosen:
            taken.append(tokens.unmerge(model.norm(tokens.x) if norm else tokens.x))
        if number == end - 1:
            rows = tokens.unmerge(model.norm(tokens.x))
            break
    first = model.num_prefix_tokens
    prefix, maps = [values[:, :first] for values in taken], [values[:, first:] for values in taken]
    if output_fmt == "NCHW":
        height, width = model.config.grid
        maps = [values.transpose(1, 2).reshape(len(values), -1, height, width) for values in maps]
    if output_dict:
        with_prefix = {"image_intermediates_prefix": prefix} if first and return_prefix_tokens else {}
        final = {} if intermediates_only else {"image_features": rows}
        return {"image_intermediates": maps, **with_prefix, **final}
    found: list[Any] = list(zip(maps, prefix, strict=True)) if first and return_prefix_tokens else list(maps)
    return found if intermediates_only else (rows, found)
