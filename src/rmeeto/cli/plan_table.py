"""What ``rmeeto plan`` shows: the minutes, what they are made of, and the curve over GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from rmeeto.cli import console

if TYPE_CHECKING:
    from rmeeto.speed import Forecast, Minutes, Reading


def print_forecast(found: Forecast, command: str) -> None:
    """The result in a few lines, the table, and the command of the run itself; on stderr what is not counted."""
    out, minutes, job = console.out(), found.minutes, found.job
    name, throughput = escape(f"{found.model}, {found.reduction}"), found.throughput
    out.print(f"[bold]{name}[/] on {minutes.machines}: [bold]{in_words(minutes.total_minutes)}[/]")
    out.print(f"One GPU trains on {speed(throughput.images_per_second)} images/s, {escape(throughput.source)}.")
    out.print(
        f"{plural(job.epochs, 'epoch')} of {job.images:,} images: {plural(minutes.steps, 'step')} of "
        f"{minutes.images_per_step:,}; {minutes.left_over:,} images of each epoch fill no step."
    )
    if found.reading is not None:
        out.print(reading_line(found.reading, minutes.machines.gpus))
    out.print(f"[bold]{escape(found.sentence)}[/]")
    out.print()
    out.print(curve_table(found))
    out.print()
    out.print(f"[dim]{escape(command)}[/]", soft_wrap=True)
    for text in notes(found):
        console.note(text)


def reading_line(reading: Reading, gpus: int) -> str:
    """How fast images are read."""
    return (
        f"A core reads {speed(reading.images_per_second)} images/s; {plural(reading.cores, 'core')} of a node with "
        f"{plural(reading.workers_per_gpu(gpus), 'worker')} per GPU read {speed(reading.speed_for(gpus))} images/s for "
        "each GPU."
    )


def curve_table(found: Forecast) -> Table:
    """One line per number of GPUs."""
    with_reading, paper = found.reading is not None, found.paper
    columns = ["GPUs", "images\nper step", "\nsteps", "compute\nmin", "sums\nmin"]
    columns += ["waiting\nmin"] if with_reading else []
    columns += ["start\nmin", "total\nmin", "of ideal\n%"]
    columns += ["paper\nmin", "ours\n± %"] if paper else []
    table = console.table(*(console.number(column) for column in columns))
    first = found.curve[0]
    for one in found.curve:
        devices = one.machines.devices
        ideal = first.total_minutes * first.machines.devices / devices
        cells = [f"{devices}", f"{one.images_per_step:,}", f"{one.steps:,}"]
        cells += [figure(one.compute_minutes), figure(one.communication_minutes)]
        cells += [figure(one.waiting_minutes)] if with_reading else []
        cells += [figure(one.start_minutes), f"[bold]{figure(one.total_minutes)}[/]"]
        cells += [f"{100 * ideal / one.total_minutes:.0f}"]
        if paper:
            cells += paper_cells(one, paper, fitted=devices == found.fitted_devices)
        table.add_row(*cells)
    return table


def paper_cells(one: Minutes, paper: dict[int, float], *, fitted: bool) -> list[str]:
    """The paper's minutes, and ours against them: that they were fitted, per cent, or from twice on how many times."""
    theirs = paper.get(one.machines.devices)
    if theirs is None:
        return ["", ""]
    times = one.total_minutes / theirs
    difference = f"{times:,.0f} ×" if times >= 2 else f"{100 * (times - 1):+.1f}".replace("-", "−")
    return [f"{theirs:.1f}", "fitted" if fitted else difference]


def notes(found: Forecast) -> list[str]:
    """What a reader must know of the figures."""
    texts = []
    if found.reading is None:
        needed = found.minutes.needed_reading_speed * found.minutes.machines.gpus
        texts.append(
            f"reading is not counted: each node must read and prepare {needed:,.0f} images/s "
            "(--data DIR measures a core of this machine)"
        )
    if found.paper:
        texts.append("paper: Table 3, three epochs on nodes of 8 H100")
    elif (why := found.why_not_table_3) is not None:
        texts.append(f"no column of the paper's Table 3: {why}")
    if found.left_out:
        counts = ", ".join(map(str, found.left_out))
        texts.append(
            f"not in the table: {counts} GPUs, which cannot share {found.minutes.images_per_step:,} images evenly"
        )
    passes, known = (
        found.job.plan(found.minutes.machines.devices).micro_batch,
        found.throughput.batch or found.job.batch,
    )
    if passes < known:
        texts.append(f"a GPU is taken to be as fast per image with {passes} images at a time as with {known}")
    if found.throughput.source.startswith("measured here, cpu"):
        texts.append("a GPU here stands for a processor like this one")
    return texts


def figure(minutes: float) -> str:
    """Minutes with as many decimals as matter."""
    return f"{minutes:,.0f}" if minutes >= 100 else f"{minutes:.1f}" if minutes >= 10 else f"{minutes:.2f}"


def in_words(minutes: float) -> str:
    """``6.63 minutes``; from two hours on the hours too."""
    text = f"{figure(minutes)} minutes"
    return text if minutes < 120 else f"{text} ({minutes / 60:,.1f} hours)"


def speed(images_per_second: float) -> str:
    """Images per second: three digits or more."""
    return f"{images_per_second:,.0f}" if images_per_second >= 100 else f"{images_per_second:.3g}"


def plural(count: int, noun: str) -> str:
    """``1 step``, ``28 steps``."""
    return f"{count:,} {noun if count == 1 else noun + 's'}"
