"""One sentence on what takes the time of a re-training, and what would help."""

from __future__ import annotations

import math

from rmeeto.speed.minutes import GRADIENT_BYTES, Job, Minutes, Reading


def bottleneck_sentence(minutes: Minutes, job: Job, reading: Reading | None) -> str:
    """What takes most of the time. reading: what the minutes were predicted with."""
    sentences = {
        "compute": _compute,
        "communication": _communication,
        "reading images": _reading,
        "starting up": _start,
    }
    return sentences[minutes.bottleneck](minutes, job, reading)


def _compute(minutes: Minutes, job: Job, reading: Reading | None) -> str:
    others = {
        "communication": minutes.communication_minutes if minutes.machines.devices > 1 else None,
        "waiting for images": None if reading is None else minutes.waiting_minutes,
        "starting up": minutes.start_minutes,
    }
    rest = [f"{name} {_share(minutes, part)}" for name, part in others.items() if part is not None]
    compute = _share(minutes, minutes.compute_minutes)
    return f"Compute is the bottleneck: it takes {compute} of the time, {', '.join(rest)}."


def _communication(minutes: Minutes, job: Job, reading: Reading | None) -> str:
    link = minutes.machines.between if minutes.machines.nodes > 1 else minutes.machines.inside
    megabytes = GRADIENT_BYTES * job.parameters / 1e6
    return (
        f"Communication is the bottleneck: summing {megabytes:,.0f} MB of gradients over {link} takes "
        f"{_seconds(minutes.sum_seconds)} of each step, computing {_seconds(minutes.step_seconds)}."
    )


def _reading(minutes: Minutes, job: Job, reading: Reading | None) -> str:
    assert reading is not None
    gpus = minutes.machines.gpus
    needed, speed = minutes.needed_reading_speed * gpus, reading.speed_for(gpus) * gpus
    if speed >= needed:
        return (
            f"Reading images is the bottleneck: the first batches take {_share(minutes, minutes.waiting_minutes)} of "
            "the time, because one worker reads a whole batch; smaller batches come sooner."
        )
    cores = math.ceil(needed / reading.images_per_second)
    return (
        f"Reading images is the bottleneck: {_nodes(minutes, reading)} {speed:,.0f} images/s, and "
        f"{'its GPU' if gpus == 1 else f'its {gpus} GPUs'} could train on {needed:,.0f}; "
        f"{cores:,} cores and as many workers would keep up."
    )


def _nodes(minutes: Minutes, reading: Reading) -> str:
    workers = reading.workers_per_gpu(minutes.machines.gpus) * minutes.machines.gpus
    if workers < reading.cores:
        return f"the {workers} workers of a node read"
    return (
        f"the {reading.cores} core{'s' if reading.cores > 1 else ''} of a node read{'s' if reading.cores == 1 else ''}"
    )


def _start(minutes: Minutes, job: Job, reading: Reading | None) -> str:
    return (
        f"Starting up is the bottleneck: {job.start_seconds:g} s are {_share(minutes, minutes.start_minutes)} of "
        "the time, so more GPUs would gain little."
    )


def _share(minutes: Minutes, part: float) -> str:
    share = 100 * part / minutes.total_minutes
    return f"{share:.0f} %" if share >= 10 else f"{share:.1f} %" if share >= 0.1 else "less than 0.1 %"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"
