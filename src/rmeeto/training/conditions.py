"""What the last digits of a run depend on beside its recipe and its data: where and by how many it is computed."""

from __future__ import annotations

import platform
from typing import Any

import torch
from accelerate import Accelerator

from rmeeto.devices import backend
from rmeeto.recipe import Recipe

Conditions = dict[str, Any]

# Measured with 1, 2, 4 and 8 processes and 1, 2 and 4 threads: see tests/training/test_processes.py.
WHAT_FOLLOWS = (
    "the run goes on with the same images and draws, but its sums are rounded otherwise: "
    "not bit for bit what it would have been, some 1e-6 off in each step"
)


def conditions_of(accelerator: Accelerator, recipe: Recipe, precision: str) -> Conditions:
    """Those of this attempt. threads: of process 0."""
    return {
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "device": device_name(accelerator),
        "backend": backend(recipe.impl, accelerator.device),
        "precision": precision,
        "torch": str(torch.__version__),
    }


def changes(before: Conditions, now: Conditions) -> tuple[str, ...]:
    """One ``name: before → now`` for each condition that has changed; none where those before are not known."""
    return tuple(
        f"{name}: {before[name]} → {now[name]}" for name in now if name in before and before[name] != now[name]
    )


def device_name(accelerator: Accelerator) -> str:
    """The accelerator's device as people call it."""
    if accelerator.device.type == "cuda":
        return str(torch.cuda.get_device_name(accelerator.device))
    return f"{accelerator.device.type} ({platform.processor() or platform.machine()})"
