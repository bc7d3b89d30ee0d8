"""How an image becomes a tensor: timm's transforms, set by the model's own description of its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision import transforms as tv

from rmeeto.data.media import CLIPS, IMAGES, Kind
from rmeeto.data.policy import check_policy, complete
from rmeeto.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rmeeto.models.reducible import ReducibleModel

Transform = Callable[[Image.Image], Tensor]
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of a training image, as timm has them; the defaults are those of DeiT, which Vim was trained with.

    auto_augment: a policy such as ``rand-m9-mstd0.5-inc1``, or None. flip: probability of mirroring.
    """

    auto_augment: str | None = "rand-m9-mstd0.5-inc1"
    color_jitter: float = 0.4
    random_erasing: float = 0.25
    flip: float = 0.5


AS_DEIT = Augmentation()


@dataclass(frozen=True)
class Preparation:
    """What a model expects. size: height and width in pixels; channels: 1 (grey) or 3 (colour).

    frames: of a clip, 1 for models of images.
    """

    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    interpolation: str
    frames: int = 1

    @classmethod
    def of(cls, model: ReducibleModel) -> Preparation:
        """Read it from a model.

        Raises:
            DataError: the model takes neither one channel nor three.
        """
        described = model.pretrained_cfg
        channels, *frames, height, width = described["input_size"]
        if channels not in MODES:
            raise DataError(
                "prepare images for the model",
                given=f"in_chans={channels}",
                why="image files give grey or colour, one channel or three",
                fix="build the model with in_chans=3",
            )
        return cls(
            channels,
            (height, width),
            tuple(described["mean"]),
            tuple(described["std"]),
            described["crop_pct"],
            described["interpolation"],
            *frames,
        )

    @property
    def kind(self) -> Kind:
        """What kind of files the model is for."""
        return CLIPS if self.frames > 1 else IMAGES

    @property
    def mode(self) -> str:
        """Pillow's name for these channels."""
        return MODES[self.channels]


def as_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert to grey or colour: 16-bit grey is scaled, not clipped, and transparency in palettes is resolved."""
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def evaluation_transform(preparation: Preparation, *, glyphs: bool) -> Transform:
    """Resize, crop the middle, normalise. Glyphs fill their frame, so nothing is cropped from them."""
    steps = evaluation_steps(preparation, crop_pct=1.0 if glyphs else preparation.crop_pct)
    return cast(Transform, tv.Compose([tv.Lambda(_ToMode(preparation.mode)), *steps]))


def evaluation_steps(preparation: Preparation, *, crop_pct: float) -> list[Any]:
    """timm's transforms for an evaluation: one that resizes, one that crops the middle, and those that normalise."""
    composed: Any = create_transform(
        input_size=(preparation.channels, *preparation.size),
        is_training=False,
        mean=preparation.mean,
        std=preparation.std,
        crop_pct=crop_pct,
        interpolation=preparation.interpolation,
    )
    return list(composed.transforms)


def training_transform(preparation: Preparation, augmentation: Augmentation, *, glyphs: bool) -> Transform:
    """Augment and normalise.

    Raises:
        ConfigError: timm does not know ``auto_augment``, or would ignore a part of it.
    """
    if glyphs:
        return _glyph_training_transform(preparation)
    # timm augments in colour only, so grey models get their grey after the augmentation
    colour, erase_and_normalise = _timm_stages(preparation, augmentation)
    steps = [tv.Lambda(_ToMode("RGB")), *colour]
    if preparation.channels == 1:
        steps.append(tv.Grayscale())
    return cast(Transform, tv.Compose([*steps, erase_and_normalise]))


def _timm_stages(preparation: Preparation, augmentation: Augmentation) -> tuple[list[Any], Any]:
    def stages(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Any, Any, Any]:
        return cast(
            tuple[Any, Any, Any],
            create_transform(
                input_size=(preparation.channels, *preparation.size),
                is_training=True,
                hflip=augmentation.flip,
                auto_augment=augmentation.auto_augment,
                color_jitter=augmentation.color_jitter,
                re_prob=augmentation.random_erasing,
                re_mode="pixel",
                interpolation=preparation.interpolation,
                mean=mean,
                std=std,
                separate=True,
            ),
        )

    if augmentation.auto_augment is not None:
        check_policy(augmentation.auto_augment)
    copies = 3 // len(preparation.mean)
    try:
        crop, augment, _ = stages(preparation.mean * copies, preparation.std * copies)
        *_, finish = stages(preparation.mean, preparation.std)
    except (AssertionError, ValueError, KeyError) as error:
        raise ConfigError(
            f"augment by auto_augment = {augmentation.auto_augment!r}",
            why=f"timm does not know it ({type(error).__name__}: {error})",
            fix='for instance "rand-m9-mstd0.5-inc1", or "none"',
        ) from error
    return [crop, complete(augment)], finish


def _glyph_training_transform(preparation: Preparation) -> Transform:
    """Turn, shift and scale a little: a mirrored or cropped digit would be another one."""
    return cast(
        Transform,
        tv.Compose(
            [
                tv.Lambda(_ToMode(preparation.mode)),
                tv.Resize(preparation.size, tv.InterpolationMode(preparation.interpolation)),
                tv.RandomAffine(
                    degrees=10, translate=(0.08, 0.08), scale=(0.9, 1.1), interpolation=tv.InterpolationMode.BILINEAR
                ),
                tv.ToTensor(),
                tv.Normalize(preparation.mean, preparation.std),
            ]
        ),
    )


@dataclass(frozen=True)
class _ToMode:
    """A conversion that worker processes can be sent, unlike a lambda."""

    mode: str

    def __call__(self, image: Image.Image) -> Image.Image:
        return as_mode(image, self.mode)
