"""How many minutes a re-training takes on many GPUs (paper, section 3.3 and Table 3): arithmetic, nothing is run.

A step is computed, then its gradients are summed over all GPUs: :mod:`rmeeto.training.gradients` does that in one
piece after the backward pass, so nothing of it overlaps. Images are read meanwhile, as fast as the cores can.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from rmeeto.checks import number, whole_number
from rmeeto.data import BatchPlan
from rmeeto.errors import ConfigError, DataError
from rmeeto.speed.links import Machines, all_reduce_seconds

ASKED = "predict the minutes of a re-training"
GRADIENT_BYTES = 4  # weights and gradients are float32, under bfloat16 autocast too
FORWARD_PASSES = 3  # a training step costs as many: a backward pass has two products for each of the forward pass
SLOWEST, FASTEST = 1e-6, 1e12  # images per second, between which a calibrated speed is searched
HALVINGS = 100

Bottleneck = Literal["compute", "communication", "reading images", "starting up"]


def check_positive(name: str, value: float) -> None:
    """Raise :class:`ConfigError` unless a value is a finite number above zero."""
    if number(ASKED, name, value) <= 0:
        raise ConfigError(ASKED, given=f"{name}={value:g}", why=f"{name} is above 0")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done, whatever it runs on.

    images: training images. epochs: passes over them. batch: images per forward pass of one GPU.
    passes: forward passes of each GPU per step, so that the images per step grow with the GPUs, as in the paper.
    images_per_step: of all GPUs together, if they shall not grow, as in ``rmeeto retrain``; ``passes`` is then unused.
    parameters: weights whose gradients are summed. eval_images: of one evaluation. evaluations: how many there are:
    before training, unreduced and reduced, and after each epoch. start_seconds: spent outside of steps and evaluations,
    nearly all before the first step; a run of 249 s on two busy cores spent 30 s so, and other machines will differ.

    Raises:
        ConfigError: a number that is impossible, or images_per_step that batches do not add up to.
    """

    images: int
    parameters: int
    epochs: int = 3
    batch: int = 128
    passes: int = 1
    images_per_step: int | None = None
    eval_images: int = 50_000
    evaluations: int = 5
    start_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("images", "parameters", "epochs", "batch", "passes"):
            whole_number(ASKED, name, getattr(self, name))
        for name in ("eval_images", "evaluations"):
            whole_number(ASKED, name, getattr(self, name), least=0)
        number(ASKED, "start_seconds", self.start_seconds, least=0)
        if self.images_per_step is not None and (self.images_per_step < 1 or self.images_per_step % self.batch):
            raise ConfigError(
                ASKED,
                given=f"{self.images_per_step} images per step, {self.batch} per forward pass",
                why="a step is made of whole forward passes",
                fix=f"for instance {max(1, round(self.images_per_step / self.batch)) * self.batch} images per step",
            )

    def plan(self, devices: int) -> BatchPlan:
        """The steps on so many GPUs, as ``rmeeto retrain`` takes them.

        Raises:
            DataError: fewer images than one step takes. ConfigError: the GPUs cannot share a step evenly.
        """
        passes = self.passes * devices if self.images_per_step is None else self.images_per_step // self.batch
        if self.images < passes * self.batch:
            gpus = "1 GPU" if devices == 1 else f"{devices} GPUs"
            made_of = f"{gpus} × {self.passes} × {self.batch} = " if self.images_per_step is None else ""
            raise DataError(
                f"train on {self.images:,} images",
                given=f"{made_of}{passes * self.batch:,} images per step",
                why="there are too few for one step",
                fix="take fewer GPUs, smaller batches or fewer passes, or more images",
            )
        return BatchPlan(
            images=self.images,
            epochs=self.epochs,
            batch_size=self.batch,
            accumulate=passes,
            processes=devices,
            pairs=True,
        )


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How fast images are read and prepared.

    images_per_second: of one core. cores: of each node. workers: processes per GPU that read; None for as many as the
    cores allow.

    Raises:
        ConfigError: a number that is impossible.
    """

    images_per_second: float
    cores: int
    workers: int | None = None

    def __post_init__(self) -> None:
        check_positive("images read per second", self.images_per_second)
        whole_number(ASKED, "cores", self.cores)
        if self.workers is not None:
            whole_number(ASKED, "workers", self.workers)

    def workers_per_gpu(self, gpus: int) -> int:
        """Of a node with so many GPUs."""
        return self.workers or max(1, self.cores // gpus)

    def speed_for(self, gpus: int) -> float:
        """Images per second for each of a node's GPUs."""
        return self.images_per_second * min(self.workers_per_gpu(gpus) * gpus, self.cores) / gpus

    def batch_seconds(self, batch: int, gpus: int) -> float:
        """One worker reads one batch, so the first batch comes no sooner than this."""
        crowding = max(1.0, self.workers_per_gpu(gpus) * gpus / self.cores)
        return batch / self.images_per_second * crowding


@dataclass(frozen=True)
class Minutes:
    """What the minutes on some machines are made of.

    steps: optimiser steps in all. images_per_step: of all GPUs. left_over: images of each epoch that fill no step.
    training_minutes: forward and backward passes and AdamW. communication_minutes: sums of gradients.
    waiting_minutes: GPUs that wait for images. evaluation_minutes: forward passes over the validation images.
    start_minutes: see :class:`Job`. step_seconds, sum_seconds: computing one step, and summing its gradients.
    training_speed: images per second that one GPU can train on; reading_speed: that are read for it, None if unknown.
    """

    machines: Machines
    steps: int
    images_per_step: int
    left_over: int
    training_minutes: float
    communication_minutes: float
    waiting_minutes: float
    evaluation_minutes: float
    start_minutes: float
    step_seconds: float
    sum_seconds: float
    training_speed: float
    reading_speed: float | None

    @property
    def total_minutes(self) -> float:
        """From the command to the last evaluation."""
        return (
            self.training_minutes
            + self.communication_minutes
            + self.waiting_minutes
            + self.evaluation_minutes
            + self.start_minutes
        )

    @property
    def compute_minutes(self) -> float:
        """What a faster GPU would shorten."""
        return self.training_minutes + self.evaluation_minutes

    @property
    def needed_reading_speed(self) -> float:
        """Images per second that must be read for one GPU so that it never waits."""
        return self.images_per_step / self.machines.devices / (self.step_seconds + self.sum_seconds)

    @property
    def bottleneck(self) -> Bottleneck:
        """Start-up if it is more than half; reading if it is slower than a step; else what takes most of the time."""
        if self.start_minutes > self.total_minutes / 2:
            return "starting up"
        if self.reading_speed is not None and self.reading_speed < self.needed_reading_speed:
            return "reading images"
        parts: dict[Bottleneck, float] = {
            "compute": self.compute_minutes,
            "communication": self.communication_minutes,
            "reading images": self.waiting_minutes,
            "starting up": self.start_minutes,
        }
        return max(parts, key=lambda name: parts[name])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        found = asdict(self)
        return {
            "devices": self.machines.devices,
            **found,
            "total_minutes": self.total_minutes,
            "bottleneck": self.bottleneck,
        }


def predict(job: Job, machines: Machines, images_per_second: float, reading: Reading | None = None) -> Minutes:
    """The minutes of a job. images_per_second: that one GPU trains on. reading: None counts no time for it.

    Assumed: a GPU is as fast per image with the batches of this plan as with those that were measured; an evaluation
    costs a third of a training step per image, and the GPUs share it; images left over by an epoch are not used.

    Raises:
        DataError, ConfigError: see :meth:`Job.plan`; or a speed that is not positive.

    >>> job = Job(images=1_281_167, parameters=26_000_000, batch=704, passes=2)
    >>> predict(job, Machines(gpus=8, nodes=4), images_per_second=334).bottleneck
    'compute'
    """
    check_positive("images per second", images_per_second)
    plan = job.plan(machines.devices)
    step_seconds = plan.share / images_per_second
    sum_seconds = all_reduce_seconds(GRADIENT_BYTES * job.parameters, machines)
    working = plan.total_steps * (step_seconds + sum_seconds)
    eval_share = math.ceil(job.eval_images / machines.devices)
    evaluating = eval_share / (FORWARD_PASSES * images_per_second)
    waiting = 0.0
    if reading is not None:
        images = plan.total_steps * plan.share
        waiting = waiting_seconds(working, images, plan.micro_batch, reading, machines.gpus)
        waiting += job.evaluations * waiting_seconds(evaluating, eval_share, job.batch, reading, machines.gpus)
    return Minutes(
        machines=machines,
        steps=plan.total_steps,
        images_per_step=plan.images_per_step,
        left_over=job.images - plan.steps_per_epoch * plan.images_per_step,
        training_minutes=plan.total_steps * step_seconds / 60,
        communication_minutes=plan.total_steps * sum_seconds / 60,
        waiting_minutes=waiting / 60,
        evaluation_minutes=job.evaluations * evaluating / 60,
        start_minutes=job.start_seconds / 60,
        step_seconds=step_seconds,
        sum_seconds=sum_seconds,
        training_speed=images_per_second,
        reading_speed=None if reading is None else reading.speed_for(machines.gpus),
    )


def waiting_seconds(working: float, images: int, batch: int, reading: Reading, gpus: int) -> float:
    """How long a GPU waits for a stream of images that it works on for so long.

    It waits for the first batch; after that only if it is faster than the reading.
    """
    first = reading.batch_seconds(min(batch, images), gpus)
    return max(first, images / reading.speed_for(gpus) - working)


def calibrate(job: Job, machines: Machines, minutes: float, reading: Reading | None = None) -> float:
    """The images per second of one GPU with which :func:`predict` gives the minutes that are known for some machines.

    Only what the GPUs compute is fitted: communication, reading and start-up stay as predicted.

    Raises:
        ConfigError: what is not fitted takes longer already, or the GPU would be slower than any.
        DataError, ConfigError: see :meth:`Job.plan`.
    """
    check_positive("minutes", minutes)

    def total(speed: float) -> float:
        return predict(job, machines, speed, reading).total_minutes

    if total(SLOWEST) < minutes:
        raise ConfigError(
            f"calibrate by {minutes:g} minutes on {machines}",
            why=f"a GPU of {SLOWEST:g} images per second would be faster",
            fix="check the minutes",
        )
    if total(FASTEST) >= minutes:
        raise ConfigError(
            f"calibrate by {minutes:g} minutes on {machines}",
            given=f"{total(FASTEST):.2g} minutes for communication, reading and start-up alone",
            why="no GPU is fast enough for that",
            fix="check the minutes, the link, the speed of reading and the seconds of start-up",
        )
    low, high = math.log(SLOWEST), math.log(FASTEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if total(math.exp(middle)) > minutes else (low, middle)
    return math.exp(high)


def placed(devices: int, machines: Machines) -> Machines:
    """So many GPUs of such nodes: part of one node, or whole nodes.

    Raises:
        ConfigError: they fill the last node only in part.
    """
    whole_number(ASKED, "GPUs", devices)
    if devices > machines.gpus and devices % machines.gpus:
        raise ConfigError(
            f"place {devices} GPUs on nodes of {machines.gpus}",
            why="the last node would be filled in part, and such steps are not modelled",
            fix=f"for instance {devices // machines.gpus * machines.gpus} GPUs",
        )
    nodes = max(1, devices // machines.gpus)
    return replace(machines, gpus=devices // nodes, nodes=nodes)


def doublings(machines: Machines) -> list[Machines]:
    """1, 2, 4 … GPUs of a node, 1, 2, 4 … nodes, and all of them."""
    counts = {2**power for power in range(machines.gpus.bit_length()) if 2**power < machines.gpus}
    counts |= {machines.gpus * 2**power for power in range(machines.nodes.bit_length()) if 2**power < machines.nodes}
    return [placed(count, machines) for count in sorted({*counts, machines.devices})]
