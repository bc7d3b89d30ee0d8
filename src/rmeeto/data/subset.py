"""A share of the training images, class by class (paper, Table 8)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from rmeeto.runtime.randomness import seed_of


def stratified(labels: Sequence[int], share: float, seed: int) -> tuple[int, ...]:
    """Indices of a share of the images, ascending: of every class that share, rounded, and at least one image.

    A smaller share with the same seed is contained in a larger one.
    """
    if share == 1.0:
        return tuple(range(len(labels)))
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        by_class.setdefault(label, []).append(index)
    chosen: list[int] = []
    for label, members in by_class.items():
        Random(seed_of(seed, "subset", label)).shuffle(members)
        chosen += members[: max(1, round(share * len(members)))]
    return tuple(sorted(chosen))
