"""Random draws as functions of numbers (a seed, an epoch, an image), so that resuming needs no saved generators.

A training step may be shared by several processes and several forward passes. Each pass then sees only a part of the
step's images, but every image must get the draws that it would get in one pass over the whole step. So within
:func:`drawing_for`, :func:`rand_by_image` draws for all images of the step and keeps those of the part.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and is unrelated to the seeds of other parts.

    >>> seed_of(0, "image", 3, 7) == seed_of(0, "image", 3, 7) != seed_of(0, "image", 3, 8)
    True
    """
    return int.from_bytes(blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()) >> 1


def seed_all(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch, on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block from a seed and leave the processor's global generators as they were found."""
    python, legacy, processor = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would wake the GPU in a worker
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.default_generator.set_state(processor)


@dataclass(frozen=True)
class Part:
    """The images of a training step that one forward pass sees.

    seed: of everything random in the step, the same for all its parts. total: images of the step. places: where this
    part's images stand among them, in rising order.
    """

    seed: int
    total: int
    places: Sequence[int]


_part: Part | None = None
_rows: dict[torch.device, Tensor] = {}  # a tensor: a copy to the GPU in every draw would wait


@contextmanager
def drawing_for(part: Part) -> Iterator[None]:
    """Seed the global generators from the part's step, and let :func:`rand_by_image` draw for the part's images."""
    global _part
    seed_all(part.seed)
    _part = part
    try:
        yield
    finally:
        _part = None
        _rows.clear()


def rand_by_image(shape: Sequence[int], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Uniform numbers in [0, 1) of a shape ``(b, …)`` from torch's global generator, for a batch of images.

    Within :func:`drawing_for` an image's numbers depend on the step and on its place there, not on its batch.
    """
    if _part is None:
        return torch.rand(tuple(shape), device=device, dtype=dtype)
    drawn = torch.rand((_part.total, *shape[1:]), device=device, dtype=dtype)
    if len(_part.places) == _part.total:
        return drawn
    if device not in _rows:
        _rows[device] = torch.tensor(_part.places, device=device)
    return drawn[_rows[device]]
