"""Mixup and cutmix: which images of a step are mixed, and how much, however many processes share the step.

timm pairs the images of a batch from its two ends (the first with the last, the second with the second last) and draws
one ratio, and one box to cut, for the batch. Here the pairs are those of the whole step, and the ratio and the box are
drawn once for every 128 of its images: the batch of DeiT's recipe, which Vim was trained with. So up to 128 images per
step this is timm's mixing. Each forward pass sees whole pairs, see :meth:`rmeeto.data.BatchPlan.places`.
"""

from __future__ import annotations

from timm.data.mixup import Mixup
from torch import Tensor

from rmeeto.recipe import Recipe
from rmeeto.runtime.randomness import Part, seed_of, seeded

MIXED_ALIKE = 128


class Mixing:
    """Mixes images and labels as a recipe says."""

    def __init__(self, recipe: Recipe, num_classes: int) -> None:
        self._mix = Mixup(  # type: ignore[no-untyped-call]
            recipe.mixup, recipe.cutmix, label_smoothing=recipe.label_smoothing, num_classes=num_classes
        )

    def __call__(self, images: Tensor, labels: Tensor, part: Part | None = None) -> tuple[Tensor, Tensor]:
        """Mixed images and soft labels ``(b, classes)``; the images that were given stay as they are.

        images: ``(b, c, h, w)``, or clips ``(b, c, t, h, w)``. labels: ``(b,)``. part: what the batch is of its step;
        None mixes the batch as timm does, drawing from numpy's global generator.
        """
        if part is None:
            return self._mixed(images, labels)
        mixed, soft = images.clone(), labels.new_zeros(len(labels), self._mix.num_classes, dtype=images.dtype)
        for number, rows in _alike(part).items():
            with seeded(seed_of(part.seed, "mix", number)):
                mixed[rows], soft[rows] = self._mixed(images[rows], labels[rows])
        return mixed, soft

    def _mixed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        # timm mixes in place, and cuts its box from the third dimension on: of clips, through all frames
        mixed, soft = self._mix(images.clone().flatten(1, -3), labels)
        return mixed.reshape(images.shape), soft


def _alike(part: Part) -> dict[int, list[int]]:
    """Rows of the part that are mixed by the same ratio and box, by the number of those; mirrored rows are pairs."""
    groups: dict[int, list[int]] = {}
    for row, place in enumerate(part.places):
        pair = min(place, part.total - 1 - place)
        groups.setdefault(2 * pair // MIXED_ALIKE, []).append(row)
    return groups
