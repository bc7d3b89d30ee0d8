"""What ``rmeeto plan`` shows: the minutes, what they are made of, and the curve over GPUs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from rmeeto.cli import console

if TYPE_CHECKING:
    from rmeeto.speed import Job, Minutes, Reading, Throughput


@dataclass(frozen=True)
class Planned:
    """A plan. curve: predictions for 1, 2, 4 … GPUs; the last is what was asked for.

    paper: Table 3's minutes by number of GPUs; why_not: in what the setting differs from the paper's, or None.
    command: of the run itself.
    """

    model: str
    reduction: str
    job: Job
    reading: Reading | None
    throughput: Throughput
    curve: tuple[Minutes, ...]
    paper: dict[int, float]
    why_not: str | None
    command: str

    @property
    def asked(self) -> Minutes:
        """The prediction for all GPUs."""
        return self.curve[-1]

    @property
    def sentence(self) -> str:
        """What takes the time."""
        from rmeeto.speed.bottleneck import bottleneck_sentence

        return bottleneck_sentence(self.asked, self.job, self.reading)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "model": self.model,
            "reduction": self.reduction,
            "job": asdict(self.job),
            "throughput": self.throughput.to_dict(),
            "reading": None if self.reading is None else asdict(self.reading),
            "minutes": self.asked.to_dict(),
            "sentence": self.sentence,
            "curve": [{**one.to_dict(), "paper_minutes": self.paper.get(one.machines.devices)} for one in self.curve],
            "not_as_in_table_3": self.why_not,
            "command": self.command,
        }


def print_plan(planned: Planned) -> None:
    """The result in a few lines, then the table; on stderr what is not counted."""
    out, asked, job = console.out(), planned.asked, planned.job
    found = planned.throughput
    name = f"{planned.model}, {planned.reduction}"
    out.print(f"[bold]{escape(name)}[/] on {asked.machines}: [bold]{in_words(asked.total_minutes)}[/]")
    out.print(f"One GPU trains on {speed(found.images_per_second)} images/s, {escape(found.source)}.")
    out.print(
        f"{plural(job.epochs, 'epoch')} of {job.images:,} images: {plural(asked.steps, 'step')} of "
        f"{asked.images_per_step:,}; {asked.left_over:,} images of each epoch fill no step."
    )
    if planned.reading is not None:
        out.print(reading_line(planned.reading, asked))
    out.print(f"[bold]{escape(planned.sentence)}[/]")
    out.print("", curve_table(planned))
    out.print("", f"[dim]{escape(planned.command)}[/]", soft_wrap=True)
    for text in not_counted(planned):
        console.note(text)


def reading_line(reading: Reading, asked: Minutes) -> str:
    """How fast images are read."""
    gpus = asked.machines.gpus
    return (
        f"A core reads {speed(reading.images_per_second)} images/s; {plural(reading.cores, 'core')} of a node with "
        f"{plural(reading.workers_per_gpu(gpus), 'worker')} per GPU read {speed(reading.speed_for(gpus))} images/s for "
        "each GPU."
    )


def curve_table(planned: Planned) -> Table:
    """One line per number of GPUs."""
    with_reading, with_paper = planned.reading is not None, bool(planned.paper)
    columns = ["GPUs", "images\nper step", "\nsteps", "compute\nmin", "sums\nmin"]
    columns += ["waiting\nmin"] if with_reading else []
    columns += ["start\nmin", "total\nmin", "of ideal\n%"]
    columns += ["paper\nmin", "ours\n± %"] if with_paper else []
    table = console.table(*(console.number(column) for column in columns))
    first = planned.curve[0]
    for one in planned.curve:
        devices = one.machines.devices
        ideal = first.total_minutes * first.machines.devices / devices
        cells = [f"{devices}", f"{one.images_per_step:,}", f"{one.steps:,}"]
        cells += [figure(one.compute_minutes), figure(one.communication_minutes)]
        cells += [figure(one.waiting_minutes)] if with_reading else []
        cells += [figure(one.start_minutes), f"[bold]{figure(one.total_minutes)}[/]"]
        cells += [f"{100 * ideal / one.total_minutes:.0f}"]
        if with_paper:
            cells += paper_cells(one.total_minutes, planned.paper.get(devices))
        table.add_row(*cells)
    return table


def paper_cells(ours: float, paper: float | None) -> list[str]:
    """The paper's minutes, and ours against them in per cent."""
    if paper is None:
        return ["", ""]
    return [f"{paper:.1f}", f"{100 * (ours / paper - 1):+.1f}".replace("-", "−")]


def not_counted(planned: Planned) -> list[str]:
    """What a reader must know of the figures."""
    notes, asked = [], planned.asked
    if planned.reading is None:
        needed = asked.needed_reading_speed * asked.machines.gpus
        notes.append(
            f"reading is not counted: each node must read and prepare {needed:,.0f} images/s "
            "(--data DIR measures a core of this machine)"
        )
    if planned.paper:
        notes.append("paper: Table 3, three epochs on nodes of 8 H100")
    elif planned.why_not is not None:
        notes.append(f"no column of the paper's Table 3: {planned.why_not}")
    if planned.throughput.source.startswith("measured here, cpu"):
        notes.append("a GPU here stands for a processor like this one")
    return notes


def figure(minutes: float) -> str:
    """Minutes with as many decimals as matter."""
    return f"{minutes:,.0f}" if minutes >= 100 else f"{minutes:.1f}" if minutes >= 10 else f"{minutes:.2f}"


def in_words(minutes: float) -> str:
    """``6.7 minutes``; from two hours on the hours too."""
    text = f"{figure(minutes)} minutes"
    return text if minutes < 120 else f"{text} ({minutes / 60:,.1f} hours)"


def speed(images_per_second: float) -> str:
    """Images per second: three digits or more."""
    return f"{images_per_second:,.0f}" if images_per_second >= 100 else f"{images_per_second:.3g}"


def plural(count: int, noun: str) -> str:
    """``1 step``, ``28 steps``."""
    return f"{count:,} {noun if count == 1 else noun + 's'}"
