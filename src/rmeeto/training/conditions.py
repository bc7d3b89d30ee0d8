"""What the last digits of a run depend on beside recipe and data: device, kernels, number of processes and threads."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from rmeeto import __version__
from rmeeto.errors import RunError, listed
from rmeeto.recipe import Recipe
from rmeeto.runtime.devices import backend
from rmeeto.runtime.processes import talking

Conditions = dict[str, Any]

# After 12 steps of two small networks with 1, 2, 4 or 8 processes or 1, 2 or 4 threads, losses were at most 4e-7 and
# weights at most 2.4e-5 apart (at lr 3e-3, by which a weight can move 0.036); rounding grows as training goes on.
WHAT_FOLLOWS = (
    "the run goes on with the same images and draws, but its sums are rounded otherwise, so it is not bit for bit "
    "what it would have been (after 12 steps losses differ by less than 1e-6)"
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
    """One ``name: before → now`` for each condition that has changed; empty if the former ones are unknown."""
    return tuple(
        f"{name}: {before[name]} → {now[name]}" for name in now if name in before and before[name] != now[name]
    )


def check_same_data(recipe: Recipe, at_the_start: str, now: str) -> None:
    """Compare the fingerprints of the data that a run began with and is resumed with.

    Raises:
        RunError: they differ.
    """
    if at_the_start != now:
        raise RunError(
            f"resume the run in {recipe.output}",
            given=f"{recipe.data}: fingerprint {now}, at the start {at_the_start}",
            why="the data has changed: other classes, labels or file names",
            fix="restore the data, or start another output folder",
        )


def check_same_beginning(step: int, data_fingerprint: str) -> None:
    """Let all processes compare after which step, and with which data, they begin this attempt.

    Raises:
        RunError: not all of them see the same run folder and the same data.
    """
    with talking():
        seen: list[tuple[int, str]] = gather_object([(step, data_fingerprint)])
    if len(set(seen)) > 1:
        each = (f"after step {step}, data with the fingerprint {data}" for step, data in seen)
        raise RunError(
            f"share a run among {len(seen)} processes",
            given=listed([f"process {rank}: {what}" for rank, what in enumerate(each)]),
            why="they do not see the same run folder and the same data",
            fix="put both where all machines find the same files under the same names",
        )


def device_name(accelerator: Accelerator) -> str:
    """The accelerator's device as people call it."""
    if accelerator.device.type == "cuda":
        return str(torch.cuda.get_device_name(accelerator.device))
    return f"{accelerator.device.type} ({platform.processor() or platform.machine()})"


def versions() -> dict[str, str]:
    """Of what a run computes with."""
    packages = {name: version(name) for name in ("torch", "timm", "accelerate", "numpy")}
    return {"rmeeto": __version__, "python": platform.python_version(), **packages}
