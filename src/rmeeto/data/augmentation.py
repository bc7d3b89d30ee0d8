"""timm's augmentation policies, with every operation defined at every magnitude that a policy can ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from PIL import Image
from timm.data.auto_augment import AugmentOp, AugMixAugment, AutoAugment, RandAugment
from timm.data.auto_augment import posterize as posterize_by_pillow


def posterize(image: Image.Image, bits_to_keep: int, **options: Any) -> Image.Image:
    """Keep the highest bits of each channel; no bits give a black image.

    timm's policies ask for 0 bits at the highest magnitude ("keep 4 down to 0 bits", as in the TPU implementation of
    RandAugment), and for less than 0 above magnitude 10. Pillow computed black for these until version 12 and refuses
    them since. Black stays the meaning here, so a recipe computes the same images with every version of Pillow.
    """
    if bits_to_keep < 1:
        return Image.new(image.mode, image.size)
    return cast(Image.Image, cast(Any, posterize_by_pillow)(image, bits_to_keep, **options))


def complete(steps: Any) -> Any:
    """Put :func:`posterize` in the place of timm's in all policies among some transforms; return the transforms."""
    for operation in operations(steps):
        if operation.aug_fn is posterize_by_pillow:
            operation.aug_fn = posterize
    return steps


def operations(steps: Any) -> Iterator[Any]:
    """The single operations of all policies in a composition, however deep they stand in it."""
    if isinstance(steps, AugmentOp):
        yield steps
    elif isinstance(steps, list | tuple):
        for step in steps:
            yield from operations(step)
    elif isinstance(steps, AutoAugment):
        yield from operations(steps.policy)
    elif isinstance(steps, RandAugment | AugMixAugment):
        yield from operations(list(steps.ops))
    else:
        yield from operations(getattr(steps, "transforms", ()))
