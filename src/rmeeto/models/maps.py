"""Dense use: what the tokens say about every patch of the full grid, however few of them are left."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rmeeto.config import ModelConfig
from rmeeto.errors import ConfigError, UnknownName
from rmeeto.models.layers import split_tokens
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


def full_grid(tokens: Tokens, values: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """The values ``(b, l, d)`` of the present tokens as ``(b, patches, d)``, and the protected ones' ``(b, p, d)``.

    A merged token's value stands at every patch it absorbed; pruned patches are zero. The class token is the first of
    the protected ones, then come the registers.
    """
    return split_tokens(tokens.unmerge(values), config.protected)


def as_map(patches: Tensor, config: ModelConfig) -> Tensor:
    """``(b, patches, d)`` as a map ``(b, d, h, w)`` over an image's patches, ``(b, d, t, h, w)`` over a clip's."""
    grid = (config.time, *config.grid) if config.is_video else config.grid
    return patches.transpose(1, 2).reshape(patches.shape[0], -1, *grid)
