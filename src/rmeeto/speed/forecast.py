"""A forecast: the minutes of a re-training for 1, 2, 4 … GPUs, the paper's beside them, and what takes the time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rmeeto.errors import ConfigError
from rmeeto.speed.bottleneck import bottleneck_sentence
from rmeeto.speed.links import Machines
from rmeeto.speed.minutes import Job, Minutes, Reading, calibrate, doublings, placed, predict
from rmeeto.speed.table3 import paper_minutes, why_not_table_3
from rmeeto.speed.throughput import Throughput


@dataclass(frozen=True)
class Forecast:
    """A re-training on many GPUs.

    reduction: as a line. reading: None if no time is counted for it. throughput: of one GPU.
    curve: predictions for 1, 2, 4 … GPUs, without those that cannot share a step evenly; the last is for all GPUs.
    fitted_devices: GPUs whose minutes were given, None if the throughput is known otherwise.
    """

    model: str
    reduction: str
    job: Job
    reading: Reading | None
    throughput: Throughput
    curve: tuple[Minutes, ...]
    fitted_devices: int | None = None

    @property
    def minutes(self) -> Minutes:
        """On all GPUs."""
        return self.curve[-1]

    @property
    def left_out(self) -> tuple[int, ...]:
        """Numbers of GPUs that the curve leaves out."""
        shown = {one.machines for one in self.curve}
        return tuple(each.devices for each in doublings(self.minutes.machines) if each not in shown)

    @property
    def sentence(self) -> str:
        """What takes the time on all GPUs."""
        return bottleneck_sentence(self.minutes, self.job, self.reading)

    @property
    def why_not_table_3(self) -> str | None:
        """In what the setting differs from that of the paper's Table 3; None if it is the same."""
        return why_not_table_3(self.model, self.reduction, self.job)

    @property
    def paper(self) -> dict[int, float]:
        """Table 3's minutes by number of GPUs; empty in another setting."""
        if self.why_not_table_3 is not None:
            return {}
        rows = {one.machines.devices: paper_minutes(self.model, one.machines) for one in self.curve}
        return {devices: minutes for devices, minutes in rows.items() if minutes is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": self.model,
            "reduction": self.reduction,
            "job": asdict(self.job),
            "throughput": self.throughput.to_dict(),
            "fitted_devices": self.fitted_devices,
            "reading": None if self.reading is None else asdict(self.reading),
            "minutes": self.minutes.to_dict(),
            "sentence": self.sentence,
            "curve": [{**one.to_dict(), "paper_minutes": self.paper.get(one.machines.devices)} for one in self.curve],
            "left_out_devices": list(self.left_out),
            "not_as_in_table_3": self.why_not_table_3,
        }


def forecast(
    model: str,
    reduction: str,
    job: Job,
    machines: Machines,
    throughput: Throughput | tuple[int, float],
    reading: Reading | None = None,
) -> Forecast:
    """Predict the minutes on these machines and on fewer of them.

    model, reduction: name and line, as Table 3 is looked up by. throughput: of one GPU; or a number of GPUs and the
    minutes that are known for it, to which the throughput is fitted.

    Raises:
        DataError: fewer images than one step takes.
        ConfigError: GPUs that cannot share a step evenly, or minutes that no throughput fits.

    >>> job = Job(images=1_281_167, parameters=26_000_000, batch=704, passes=2)
    >>> forecast("vim_small", "merge:r=11", job, Machines(gpus=8, nodes=4), (8, 25.2)).paper[32]
    6.8
    """
    job.plan(machines.devices)
    fitted_devices = None
    if not isinstance(throughput, Throughput):
        fitted_devices, minutes = throughput
        throughput = calibrated(job, placed(fitted_devices, machines), minutes, reading)
    speed = throughput.images_per_second
    curve = tuple(predict(job, each, speed, reading) for each in doublings(machines) if _share_evenly(job, each))
    return Forecast(model, reduction, job, reading, throughput, curve, fitted_devices)


def calibrated(job: Job, machines: Machines, minutes: float, reading: Reading | None = None) -> Throughput:
    """The throughput that makes the minutes of some machines right; its source says what of them it accounts for.

    Raises:
        DataError, ConfigError: as :func:`rmeeto.speed.calibrate`.
    """
    speed = calibrate(job, machines, minutes, reading)
    compute = predict(job, machines, speed, reading).compute_minutes
    return Throughput(
        speed,
        "calibrated",
        f"calibrated so that {machines} take {minutes:g} minutes: {compute:.2f} of them are computing, which was "
        f"fitted; {minutes - compute:.2f} are communication, waiting and start-up, which were predicted",
    )


def _share_evenly(job: Job, machines: Machines) -> bool:
    try:
        job.plan(machines.devices)
    except ConfigError:
        return False
    return True
