"""timm's augmentation policies: no part is left out without a word, and every operation works at every magnitude."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from PIL import Image
from timm.data.auto_augment import AugmentOp, AugMixAugment, AutoAugment, RandAugment
from timm.data.auto_augment import posterize as posterize_by_pillow

from rmeeto.errors import ConfigError

# Letters of the settings, each followed by a number; what stands here for one kind is unknown to the others.
SETTINGS = {
    "rand": ("m", "n", "p", "mstd", "mmax", "inc"),
    "augmix": ("m", "w", "d", "a", "b", "mstd"),
}
OF_FIXED_POLICIES = ("mstd",)  # original, originalr, v0, v0r, 3a
TRANSFORM_SETS = ("tweights", "t3a", "t3aw")  # of rand


def check_policy(policy: str) -> None:
    """Refuse a policy such as ``rand-m9-mstd0.5-inc1`` if one of its sections means nothing to timm.

    timm itself refuses unknown policies and unknown letters before a number; other sections it ignores.

    Raises:
        ConfigError: it names the section.
    """
    kind, *sections = policy.split("-")
    known = SETTINGS.get(kind, OF_FIXED_POLICIES)
    for section in sections:
        if kind == "rand" and section in TRANSFORM_SETS:
            continue
        match = re.fullmatch(r"([a-z]+)\d.*", section)
        if match is None or match[1] not in known:
            sets = f"; or one of {', '.join(TRANSFORM_SETS)}" if kind == "rand" else ""
            raise ConfigError(
                f"augment by auto_augment = {policy!r}",
                given=f"the section {section!r}",
                why=f"the sections of {kind!r} are {', '.join(known)}, each with a number behind it{sets}",
                fix='for instance "rand-m9-mstd0.5-inc1", or "none"',
            )


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
