"""How training images are varied, as one value."""

from __future__ import annotations

from dataclasses import dataclass


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
