"""ModelConfig: a network's sizes as a frozen value. Knows no tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from rmeeto.checks import number, whole_number
from rmeeto.config.sizes import changed
from rmeeto.errors import ConfigError, UnknownName

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GlobalPool = Literal["token", "avg", ""]
PositionInterpolation = Literal["bicubic", "antialiased"]
INTERPOLATIONS = ("bicubic", "bilinear", "nearest", "lanczos", "box", "hamming", "random")  # that timm knows
# Least and most. The most are far above every known model; they keep a damaged or hostile file from filling memory.
BOUNDS = {
    "patch_size": (1, 65_536),
    "stride": (1, 65_536),
    "in_chans": (1, 65_536),
    "frames": (1, 65_536),
    "tubelet": (1, 65_536),
    "num_classes": (0, 10_000_000),
    "registers": (0, 65_536),
    "dim": (1, 1_000_000),
    "depth": (1, 10_000),
    "state": (1, 65_536),
    "expand": (1, 1_024),
    "conv_width": (1, 1_024),
}
MOST_PIXELS = 65_536  # on a side
MOST_TOKENS = 10_000_000
MOST_PARAMETERS = 10_000_000_000


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a bidirectional Vision Mamba (v2) and how its images or clips are prepared.

    img_size: height and width in pixels (an int is both). patch_size, stride: of the patch convolution, in pixels.
    frames: of a clip; 1 is an image. tubelet: frames per patch.
    num_classes: width of the logits; 0 is a backbone without a head. cls_place: where the class token stands, in the
    middle of the patches (Vim) or first (VideoMamba). registers: further learned tokens, spread evenly over the
    sequence, that no reduction touches and the head does not read (after Wang et al. 2024, "Mamba-R: Vision Mamba also
    needs registers", whose head reads them).
    dim: width d. depth: blocks. state: n. expand: inner width e over d. conv_width: k.
    dt_rank: rank of Δ; None is ⌈d/16⌉.
    halve: halve the sum of both directions (Vim does, VideoMamba does not).
    drop_path_rate: of the last block, rising linearly from 0. drop_rate: of the dropout before the head.
    global_pool: what the head reads: ``token``, the class token; ``avg``, the mean of the patches, merged ones
    counted by their size; or ``""``, every token, class token and registers first.
    mean, std, crop_pct, interpolation: evaluation transform, as in timm's ``pretrained_cfg``.
    position_interpolation: how weights for another image size get their position table resampled: ``bicubic``, as the
    official programs of Vim and VideoMamba do, or ``antialiased``, as timm does.
    """

    family: ClassVar[str] = "vim"

    img_size: tuple[int, int] = (224, 224)
    patch_size: int = 16
    stride: int = 16
    in_chans: int = 3
    frames: int = 1
    tubelet: int = 1
    num_classes: int = 1000
    cls_place: Literal["middle", "first"] = "middle"
    registers: int = 0
    dim: int = 192
    depth: int = 24
    state: int = 16
    expand: int = 2
    conv_width: int = 4
    dt_rank: int | None = None
    halve: bool = True
    drop_path_rate: float = 0.0
    drop_rate: float = 0.0
    global_pool: GlobalPool = "token"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    position_interpolation: PositionInterpolation = "bicubic"

    def __post_init__(self) -> None:
        asked = "build a model"
        object.__setattr__(self, "img_size", _two_sides(self.img_size))
        if isinstance(self.registers, int) and self.registers < 0:
            raise ConfigError(f"build a model with registers={self.registers}", why="0 registers is the least")
        for name, (least, most) in BOUNDS.items():
            object.__setattr__(self, name, whole_number(asked, name, getattr(self, name), least=least, most=most))
        if self.dt_rank is not None:
            object.__setattr__(self, "dt_rank", whole_number(asked, "dt_rank", self.dt_rank, most=1_000_000))
        for name in ("drop_path_rate", "drop_rate"):
            rate = number(asked, name, getattr(self, name), least=0)
            if rate >= 1:
                raise ConfigError(asked, given=f"{name}={rate:g}", why="it is the probability of leaving out: below 1")
            object.__setattr__(self, name, rate)
        object.__setattr__(self, "mean", _per_channel("mean", self.mean, -math.inf))
        object.__setattr__(self, "std", _per_channel("std", self.std, 1e-6))
        if len(self.mean) != len(self.std):
            given = f"{len(self.mean)} means, {len(self.std)} standard deviations"
            raise ConfigError("normalise images", given=given, why="each channel has one of each")
        object.__setattr__(self, "crop_pct", number(asked, "crop_pct", self.crop_pct, least=0.01, most=1))
        if not isinstance(self.halve, bool):
            raise ConfigError(asked, given=f"halve={self.halve!r}", why="halve is True or False")
        for kind, name, known in (
            ("interpolation of images", self.interpolation, INTERPOLATIONS),
            ("place of the class token", self.cls_place, ("middle", "first")),
            ("global pooling of a Vision Mamba", self.global_pool, get_args(GlobalPool)),
            ("interpolation of positions", self.position_interpolation, get_args(PositionInterpolation)),
        ):
            if name not in known:
                raise UnknownName(kind, str(name), (one or "''" for one in known))
        cut, given = "cut images into patches", f"patch_size={self.patch_size}"
        if min(self.img_size) < self.patch_size:
            fix = "use larger images or smaller patches"
            raise ConfigError(cut, given=f"img_size={self.img_size}, {given}", why="not one patch fits", fix=fix)
        if self.stride > self.patch_size:
            why, fix = "no token would see the pixels between the patches", "use a stride of at most the patch size"
            raise ConfigError(cut, given=f"stride={self.stride}, {given}", why=why, fix=fix)
        if self.frames % self.tubelet:
            raise ConfigError(
                "cut clips into patches",
                given=f"frames={self.frames}, tubelet={self.tubelet}",
                why="the last frames would be left over",
                fix="use a multiple of the tubelet",
            )
        for what, count, most in (
            ("tokens", self.tokens, MOST_TOKENS),
            ("parameters", self.parameters, MOST_PARAMETERS),
        ):
            if count > most:
                given = f"sizes that make {count:,} {what}"
                raise ConfigError(asked, given=given, why=f"at most {most:,} are possible")

    @property
    def is_video(self) -> bool:
        """Whether the model sees clips: patches in three dimensions, and positions in time."""
        return self.frames > 1

    @property
    def input_size(self) -> tuple[int, ...]:
        """Shape of one input: ``(c, h, w)``, or ``(c, t, h, w)`` of a clip."""
        return (self.in_chans, self.frames, *self.img_size) if self.is_video else (self.in_chans, *self.img_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and row of a frame."""
        height, width = ((size - self.patch_size) // self.stride + 1 for size in self.img_size)
        return height, width

    @property
    def time(self) -> int:
        """Patches along time; 1 for images."""
        return self.frames // self.tubelet

    @property
    def patches(self) -> int:
        """Patches per image or clip."""
        return self.time * self.grid[0] * self.grid[1]

    @property
    def tokens(self) -> int:
        """Tokens per image or clip: the patches, the class token and the registers."""
        return self.patches + 1 + self.registers

    @property
    def protected(self) -> tuple[int, ...]:
        """Positions of the tokens that are no patches, the class token's first.

        The class token stands before the patches or after half of them. Registers cut the patches into equal runs; a
        register that falls beside the class token stands behind it.
        """
        cls_cut = self.patches // 2 if self.cls_place == "middle" else 0
        cuts = [cls_cut, *(self.patches * run // (self.registers + 1) for run in range(1, self.registers + 1))]
        places = [0] * len(cuts)
        for before, cut in enumerate(sorted(range(len(cuts)), key=cuts.__getitem__)):  # stable: equals stay in order
            places[cut] = cuts[cut] + before
        return tuple(places)

    @property
    def cls_index(self) -> int:
        """The class token's place among the tokens."""
        return self.protected[0]

    @property
    def cls_row(self) -> int:
        """The class token's row in the position table, which covers one frame."""
        return self.grid[0] * self.grid[1] // 2 if self.cls_place == "middle" else 0

    @property
    def inner(self) -> int:
        """Inner width e of the mixer."""
        return self.expand * self.dim

    @property
    def rank(self) -> int:
        """Rank of the Δ projection."""
        return self.dt_rank or math.ceil(self.dim / 16)

    @property
    def parameters(self) -> int:
        """Numbers that training learns, from the sizes alone."""
        d, e, n, k, rank = self.dim, self.inner, self.state, self.conv_width, self.rank
        direction = e * n + e + e * (k + 1) + e * (rank + 2 * n) + rank * e + e  # A, skip, conv, x_proj, dt_proj
        block = d * 2 * e + 2 * direction + e * d + d  # in_proj, both directions, out_proj, norm
        patch_embedding = self.tubelet * self.patch_size**2 * self.in_chans * d + d
        positions = self.grid[0] * self.grid[1] + 1 + (self.time if self.is_video else 0)
        head = d * self.num_classes + self.num_classes
        return self.depth * block + patch_embedding + (positions + 1 + self.registers) * d + d + head  # and final norm

    def changed(self, **changes: Any) -> ModelConfig:
        """A copy with the changes that are not None.

        Raises:
            UnknownOption: a field that does not exist, with the nearest that do.
        """
        return changed(self, changes)


def _two_sides(size: Any) -> tuple[int, int]:
    """Height and width of an image; one number is both."""
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if len(sides) != 2:
        raise ConfigError("build a model", given=f"img_size={size!r}", why="an image has a height and a width")
    height, width = (whole_number("build a model", "img_size", side, most=MOST_PIXELS) for side in sides)
    return height, width


def _per_channel(name: str, values: Any, least: float) -> tuple[float, ...]:
    """One finite number for each channel of an image, at least one."""
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError("normalise images", given=f"{name}={values!r}", why=f"{name} has a number for each channel")
    return tuple(number("normalise images", name, value, least=least) for value in values)
