"""ModelConfig: a network's sizes as a frozen value. Knows no tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from rmeeto.errors import ConfigError, UnknownName

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a bidirectional Vision Mamba (v2) and how its images are prepared.

    img_size: height and width in pixels (an int is both). patch_size, stride: of the patch convolution, in pixels.
    dim: width d. depth: blocks. state: n. expand: inner width e over d. conv_width: k.
    dt_rank: rank of Δ; None is ⌈d/16⌉.
    halve: halve the sum of both directions (Vim does). drop_path_rate: of the last block, rising linearly from 0.
    mean, std, crop_pct, interpolation: evaluation transform, as in timm's ``pretrained_cfg``.
    """

    img_size: tuple[int, int] = (224, 224)
    patch_size: int = 16
    stride: int = 16
    in_chans: int = 3
    num_classes: int = 1000
    dim: int = 192
    depth: int = 24
    state: int = 16
    expand: int = 2
    conv_width: int = 4
    dt_rank: int | None = None
    halve: bool = True
    drop_path_rate: float = 0.0
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop_pct: float = 0.875
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        size = self.img_size
        object.__setattr__(self, "img_size", (size, size) if isinstance(size, int) else tuple(size))
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        for name in ("patch_size", "stride", "in_chans", "num_classes", "dim", "depth", "state", "expand"):
            if getattr(self, name) < 1:
                raise ConfigError(f"build a model with {name}={getattr(self, name)}", why=f"{name} counts from 1")
        if min(self.img_size) < self.patch_size:
            raise ConfigError(
                "cut images into patches",
                given=f"img_size={self.img_size}, patch_size={self.patch_size}",
                why="not one patch fits",
                fix="use larger images or smaller patches",
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and row."""
        height, width = ((size - self.patch_size) // self.stride + 1 for size in self.img_size)
        return height, width

    @property
    def patches(self) -> int:
        """Patches per image."""
        return self.grid[0] * self.grid[1]

    @property
    def tokens(self) -> int:
        """Tokens per image: the patches and the class token."""
        return self.patches + 1

    @property
    def cls_index(self) -> int:
        """The class token's place: after half of the patches."""
        return self.patches // 2

    @property
    def inner(self) -> int:
        """Inner width e of the mixer."""
        return self.expand * self.dim

    @property
    def rank(self) -> int:
        """Rank of the Δ projection."""
        return self.dt_rank or math.ceil(self.dim / 16)

    def changed(self, **changes: Any) -> ModelConfig:
        """A copy with the changes that are not None.

        Raises:
            UnknownName: a field that does not exist, with the nearest that do.
        """
        for name in changes:
            if name not in self.__dataclass_fields__:
                raise UnknownName("model option", name, self.__dataclass_fields__)
        return replace(self, **{name: value for name, value in changes.items() if value is not None})
