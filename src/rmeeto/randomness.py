"""Randomness as a function of numbers (a seed, an epoch, an image), so that going on needs no saved generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np
import torch


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
