"""TransformerConfig: a Vision Transformer's sizes as a frozen value. Knows no tensors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a Vision Transformer, as read off a timm model.

    architecture: timm's name, None where the model has none. img_size: height and width in pixels.
    grid: patches per column and row. patch_size: height and width in pixels.
    prefix: tokens before the patches that no reduction touches: class, distillation and register tokens.
    pool: what the head reads: ``token``, ``avg``, ``max``, ``avgmax``, ``map`` or ``""`` (every token).
    dim: width d. depth: blocks. heads, head_dim: of the attention. hidden: width inside the MLP.
    gated: whether the MLP multiplies two projections (SwiGLU). layer_scale: whether each half scales its output.
    """

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
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_dim
