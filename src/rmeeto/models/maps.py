"""Dense use: what the tokens say about every patch of the full grid, however few of them are left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

from torch import Tensor

from rmeeto.errors import ConfigError, UnknownName
from rmeeto.reduction.tokens import Tokens

FORMATS = ("NCHW", "NLC")


def check_format(name: str) -> None:
    """Raise :class:`UnknownName` for anything but timm's NCHW and NLC."""
    if name not in FORMATS:
        raise UnknownName("output format", name, FORMATS)


def chosen_blocks(depth: int, indices: int | Sequence[int] | None) -> list[int]:
    """timm's ``indices`` counted from 0: the last so many blocks, these (negative from the end), or None for all.

    Raises:
        ConfigError: a block that the network does not have.
    """
    chosen = range(-depth, 0) if indices is None else range(-indices, 0) if isinstance(indices, int) else indices
    if not chosen or not all(-depth <= index < depth for index in chosen):
        raise ConfigError(
            "take maps after some blocks",
            given=f"indices {indices}",
            why=f"the network has blocks 0 to {depth - 1}",
            fix=f"an int up to {depth} is the last so many; negative indices count from the end",
        )
    return [index % depth for index in chosen]


def intermediates(
    blocks: Iterator[Tokens],
    depth: int,
    grid: tuple[int, ...],
    rows: Callable[[Tokens], Tensor],
    features: Callable[[Tokens], Tensor],
    indices: int | Sequence[int] | None,
    *,
    return_prefix_tokens: bool = False,
    stop_early: bool = False,
    output_fmt: str = "NCHW",
    intermediates_only: bool = False,
    output_dict: bool = False,
) -> Any:
    """timm's ``forward_intermediates`` of a reduced model; its options mean what they mean there.

    blocks: the tokens that leave each of ``depth`` blocks. grid: how the patches lie in an image or clip.
    rows: tokens to what a map shows, ``(b, l0, d)`` for all tokens that entered, those that are no patches first.
    features: tokens that left the last block to the features that stand beside the maps.

    Raises:
        UnknownName: another output format. ConfigError: a block that the network does not have.
    """
    check_format(output_fmt)
    chosen = chosen_blocks(depth, indices)
    last, taken = max(chosen) if stop_early or intermediates_only else depth - 1, []
    for number, tokens in enumerate(blocks):
        if number in chosen:
            taken.append(rows(tokens))
        if number == last:
            break
    patches = prod(grid)
    prefixes, maps = [values[:, :-patches] for values in taken], [values[:, -patches:] for values in taken]
    if output_fmt == "NCHW":
        maps = [values.transpose(1, 2).reshape(len(values), -1, *grid) for values in maps]
    with_prefixes = return_prefix_tokens and prefixes[0].shape[1] > 0
    if output_dict:
        inside = {"image_intermediates_prefix": prefixes} if with_prefixes else {}
        final = {} if intermediates_only else {"image_features": features(tokens)}
        return {"image_intermediates": maps, **inside, **final}
    result: list[Any] = list(zip(maps, prefixes, strict=True)) if with_prefixes else maps
    return result if intermediates_only else (features(tokens), result)
