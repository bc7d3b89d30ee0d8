"""TransformerConfig: a Vision Transformer's sizes as a frozen value. Knows no tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rmeeto.checks import whole_number
from rmeeto.errors import ConfigError

# Least and most, which keep a damaged or hostile file from filling memory.
BOUNDS = {
    "in_chans": (1, 65_536),
    "num_classes": (0, 10_000_000),
    "prefix": (0, 65_536),
    "dim": (1, 1_000_000),
    "depth": (1, 10_000),
    "heads": (1, 65_536),
    "head_dim": (1, 65_536),
    "hidden": (1, 10_000_000),
}


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a Vision Transformer, as read off a timm model, and how timm builds it again.

    architecture: timm's name for it; None for a network that timm cannot build from a name and plain options (put
    together by hand), which then cannot be saved as a folder. options: what timm needs to know beside that name.
    img_size: height and width in pixels. grid: patches per column and row. patch_size: height and width in pixels.
    prefix: tokens before the patches that no reduction touches: class, distillation and register tokens.
    pool: what the head reads: ``token``, ``avg``, ``max``, ``avgmax``, ``map`` or ``""`` (every token).
    dim: width d. depth: blocks. heads, head_dim: of the attention. hidden: width inside the MLP.
    gated: whether the MLP multiplies two projections (SwiGLU). layer_scale: whether each half scales its output.
    """

    family: ClassVar[str] = "vit"

    architecture: str | None
    img_size: tuple[int, int]
    patch_size: tuple[int, int]
    grid: tuple[int, int]
    in_chans: int
    num_classes: int
    prefix: int
    pool: str
    dim: int
    depth: int
    heads: int
    head_dim: int
    hidden: int
    gated: bool
    layer_scale: bool
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        asked = "describe a Transformer"
        for name in ("img_size", "patch_size", "grid"):
            sides = getattr(self, name)
            if not isinstance(sides, list | tuple) or len(sides) != 2:  # JSON knows no tuples
                raise ConfigError(asked, given=f"{name}={sides!r}", why=f"{name} is a height and a width")
            object.__setattr__(self, name, tuple(whole_number(asked, name, side, most=65_536) for side in sides))
        for name, (least, most) in BOUNDS.items():
            object.__setattr__(self, name, whole_number(asked, name, getattr(self, name), least=least, most=most))
        if not isinstance(self.architecture, str | None) or not isinstance(self.pool, str):
            given = f"architecture={self.architecture!r}, pool={self.pool!r}"
            raise ConfigError(asked, given=given, why="both are timm's words")
        if not isinstance(self.options, Mapping) or not all(isinstance(name, str) for name in self.options):
            raise ConfigError(asked, given=f"options={self.options!r}", why="options are names with values")

    @property
    def input_size(self) -> tuple[int, ...]:
        """Shape of one input, ``(c, h, w)``."""
        return (self.in_chans, *self.img_size)

    @property
    def patches(self) -> int:
        """Patches per image."""
        return self.grid[0] * self.grid[1]

    @property
    def tokens(self) -> int:
        """Tokens per image: the patches and those before them."""
        return self.prefix + self.patches

    @property
    def protected(self) -> tuple[int, ...]:
        """Places of the tokens that are no patches, all of them in front."""
        return tuple(range(self.prefix))

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_dim
