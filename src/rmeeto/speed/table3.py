"""Table 3 of the paper: minutes of re-training for three epochs on 8, 16 and 32 H100, and the setting they hold for."""

from __future__ import annotations

from rmeeto.speed.links import Machines
from rmeeto.speed.minutes import Job

IMAGENET_IMAGES = 1_281_167
GPUS_OF_A_NODE = 8
EPOCHS = 3

MINUTES = {
    "vim_tiny": {8: 16.2, 16: 8.1, 32: 4.2},
    "vim_small": {8: 25.2, 16: 12.9, 32: 6.8},
    "vim_base": {8: 57.6, 16: 30.6, 32: 16.9},
}
"""By model and number of GPUs (paper, Table 3)."""

BATCHES = {"vim_tiny": (1152, 2), "vim_small": (704, 2), "vim_base": (256, 2)}
"""Images per forward pass and forward passes per step, of each GPU (paper, section 3.3)."""

REDUCTIONS = {"vim_tiny": "merge:r=5", "vim_small": "merge:r=11", "vim_base": "merge:r=11"}
"""The reductions of the models (paper, section 3.1: ratio 0.14 for Vim-Ti, 0.31 for the others)."""


def why_not_table_3(model: str, reduction: str, job: Job) -> str | None:
    """In what a job differs from the paper's setting, in a few words; None if it is the paper's."""
    if model not in MINUTES:
        return f"the paper has no {model} there"
    batch, passes = BATCHES[model]
    step = (
        f"{job.images_per_step:,} images per step"
        if job.images_per_step is not None
        else f"{job.batch} × {job.passes} images per GPU"
    )
    differences = [
        (reduction != REDUCTIONS[model], f"{reduction}, not {REDUCTIONS[model]}"),
        (job.images != IMAGENET_IMAGES, f"{job.images:,} images, not {IMAGENET_IMAGES:,}"),
        (job.epochs != EPOCHS, f"{job.epochs} epochs, not {EPOCHS}"),
        (
            (job.batch, job.passes, job.images_per_step) != (batch, passes, None),
            f"{step}, not {batch} × {passes} per GPU",
        ),
    ]
    found = [words for differs, words in differences if differs]
    return "; ".join(found) or None


def paper_minutes(model: str, machines: Machines) -> float | None:
    """The paper's minutes on so many nodes of 8 GPUs; None if Table 3 has no such row."""
    if machines.gpus != GPUS_OF_A_NODE:
        return None
    return MINUTES[model].get(machines.devices)
