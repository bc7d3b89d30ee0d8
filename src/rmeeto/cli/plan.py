"""``rmeeto plan``: how many minutes a re-training takes on many GPUs, and what they are made of."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from rmeeto.cli import console
from rmeeto.cli.flops import default_reductions
from rmeeto.cli.model import RANDOM, build, fitting_reductions
from rmeeto.cli.options import JsonOption, ModelArgument, ReduceOption
from rmeeto.cli.plan_table import print_forecast
from rmeeto.errors import ConfigError
from rmeeto.files.paths import check_output

if TYPE_CHECKING:
    from rmeeto.models.description import Description
    from rmeeto.reduction import Reduction
    from rmeeto.speed import Forecast, Reading, Throughput

machine = partial(typer.Option, rich_help_panel="GPUs")
speed = partial(typer.Option, rich_help_panel="Speed of one GPU: one of these, or some steps are measured here")
training = partial(typer.Option, rich_help_panel="Training")
reading = partial(typer.Option, rich_help_panel="Reading images: without one of the first two it is not counted")

BATCH = 128  # images per forward pass, as in the recipes


def plan(
    model: ModelArgument,
    reduce: ReduceOption = None,
    gpus: Annotated[int, machine(min=1, metavar="N", help="GPUs of each node.")] = 8,
    nodes: Annotated[int, machine(min=1, metavar="N", help="Nodes.")] = 1,
    link: Annotated[str, machine(metavar="NAME", help="Between nodes: infiniband, ethernet-25 ….")] = "infiniband",
    inside: Annotated[str, machine(metavar="NAME", help="Inside a node: nvlink, pcie5 ….")] = "nvlink",
    adapters: Annotated[
        int | None, machine(min=1, metavar="N", help="Network adapters of each node; by default 1.")
    ] = None,
    bandwidth: Annotated[
        float | None, machine(metavar="X", help="GB/s that leave a node, if you have measured them.")
    ] = None,
    images_per_second: Annotated[
        float | None, speed("--images-per-second", metavar="X", help="That one GPU trains on, as you know it.")
    ] = None,
    measured: Annotated[
        Path | None,
        speed("--from", metavar="FILE", help="A run's folder, a result of benchmarks/training.py or of bench --json."),
    ] = None,
    calibrate: Annotated[
        str | None, speed(metavar="N=MINUTES", help="Minutes that are known for N GPUs, such as 8=25.2.")
    ] = None,
    precision: Annotated[
        str | None, speed(metavar="NAME", help="Of steps measured here: float32, bfloat16 or auto.")
    ] = None,
    images: Annotated[int, training(min=1, metavar="N", help="Training images.")] = 1_281_167,
    epochs: Annotated[int, training(min=1, metavar="N", help="Passes over them.")] = 3,
    batch: Annotated[
        int | None,
        training("--batch", "-b", "--batch-size", min=1, metavar="N", help="Images per forward pass of one GPU."),
    ] = None,
    passes: Annotated[
        int | None,
        training(min=1, metavar="N", help="Forward passes of each GPU per step: more GPUs, more images per step."),
    ] = None,
    images_per_step: Annotated[
        int | None,
        training(min=1, metavar="N", help="Of all GPUs together, however many they are, instead of --passes."),
    ] = None,
    eval_images: Annotated[
        int, training(min=0, metavar="N", help="Validation images, seen before training and after each epoch.")
    ] = 50_000,
    start_seconds: Annotated[
        float, training(min=0, metavar="S", help="From the command to the first step; an assumption.")
    ] = 30.0,
    data: Annotated[
        str | None, reading(metavar="DIR", help="Measure one core of this machine on these images.")
    ] = None,
    decode_rate: Annotated[
        float | None, reading(metavar="X", help="Images per second that one core reads and prepares.")
    ] = None,
    cores: Annotated[
        int | None, reading(min=1, metavar="N", help="Cores of each node; by default those of this machine.")
    ] = None,
    workers: Annotated[
        int | None,
        reading("--workers", "-j", min=1, metavar="N", help="Reading processes per GPU; by default all cores' worth."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the curve: .png, .pdf, .svg.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict the minutes of a re-training on many GPUs; nothing is trained.

    Training steps, sums of gradients, reading, evaluations and start-up are added up, for 1, 2, 4 … GPUs.

    The paper's Table 3 stands beside them where the setting is the paper's.
    """
    refuse_contradictions(("--images-per-second", images_per_second), ("--from", measured), ("--calibrate", calibrate))
    refuse_contradictions(("--images-per-step", images_per_step), ("--passes", passes))
    refuse_contradictions(("--data", data), ("--decode-rate", decode_rate))
    refuse_contradictions(("--adapters", adapters), ("--bandwidth", bandwidth))
    if data is None and decode_rate is None and (cores or workers):
        raise ConfigError(
            "plan with --cores or --workers",
            why="nothing says how fast a core reads, so reading is not counted",
            fix="add --decode-rate X, or --data DIR to measure it",
        )
    speeds = (images_per_second, measured, calibrate)
    if precision is not None and any(known is not None for known in speeds):
        raise ConfigError(
            f"plan with --precision {precision}",
            why="it is that of steps measured here, and the speed of a GPU is given in another way",
            fix="leave it out",
        )
    known = None if calibrate is None else known_minutes(calibrate)

    from rmeeto.models.description import describe
    from rmeeto.speed import Job, Machines, Throughput, forecast, parameters_of, placed

    described = describe(model)
    (reduction,) = fitting_reductions(described, [reduce or default_reductions(described)[-1]])
    network = None if bandwidth is None else 1e9 * bandwidth
    machines = Machines(gpus, nodes, inside, link, adapters or 1, network)
    size, repeats = batches(described.name, batch, passes, images_per_step)
    job = Job(
        images=images,
        epochs=epochs,
        parameters=parameters_of(described.config),
        batch=size,
        passes=repeats,
        images_per_step=images_per_step,
        eval_images=eval_images,
        evaluations=epochs + (1 if reduction is None else 2),
        start_seconds=start_seconds,
    )
    # what is impossible is refused before anything is measured
    asked = job.plan(machines.devices)
    if known is not None:
        job.plan(placed(known[0], machines).devices)
    if plot is not None:
        check_plot(plot)
    read = reading_of(model, data, decode_rate, cores, workers)
    throughput: Throughput | tuple[int, float]
    if known is not None:
        throughput = known
    elif images_per_second is not None:
        throughput = Throughput(images_per_second, "given", "as given")
    else:
        throughput = measured_throughput(model, described, reduction, measured, size, precision)
    found = forecast(described.name, str(reduction or "none"), job, machines, throughput, read)
    run = command(model, found, asked.accumulate, data or "DIR")
    if plot is not None:
        draw(found, plot)
    if as_json:
        console.print_json({**found.to_dict(), "command": run})
    else:
        print_forecast(found, run)
        if plot is not None:
            console.out().print(f"wrote [bold]{escape(str(plot))}[/]")


def refuse_contradictions(*options: tuple[str, object]) -> None:
    """Raise :class:`ConfigError` if more than one of these options was given."""
    given = [name for name, value in options if value is not None]
    if len(given) > 1:
        raise ConfigError(
            f"plan with {' and '.join(given)}", why="each of them says the same thing", fix="give one of them"
        )


def known_minutes(text: str) -> tuple[int, float]:
    """GPUs and minutes of ``8=25.2``."""
    devices, _, minutes = text.partition("=")
    try:
        return int(devices), float(minutes)
    except ValueError:
        raise ConfigError(
            f"calibrate by {text}",
            why="it is a number of GPUs, =, and their minutes",
            fix="for instance --calibrate 8=25.2",
        ) from None


def batches(model: str, batch: int | None, passes: int | None, images_per_step: int | None) -> tuple[int, int]:
    """Images per forward pass and forward passes per step: as given, else the paper's, else 128 and 1."""
    from rmeeto.speed.table3 import BATCHES

    papers = (BATCH, 1) if images_per_step is not None or batch is not None else BATCHES.get(model, (BATCH, 1))
    return batch or papers[0], passes or papers[1]


def reading_of(
    model: str, data: str | None, decode_rate: float | None, cores: int | None, workers: int | None
) -> Reading | None:
    """How fast images are read: stated, or measured on data; None if neither is asked for."""
    if data is None and decode_rate is None:
        return None
    from rmeeto.runtime.doctor import machine
    from rmeeto.speed import Reading, reading_rate

    cores = cores or machine().cores
    if decode_rate is not None:
        return Reading(images_per_second=decode_rate, cores=cores, workers=workers)

    from rmeeto.data import Preparation, open_data

    assert data is not None
    source = open_data(data, "train")
    preparation = Preparation.of(build(model, unimportant_weights(model), impl="auto"))
    rate = reading_rate(source, preparation, progress=console.progress())
    return Reading(images_per_second=rate, cores=cores, workers=workers)


def measured_throughput(
    model: str,
    described: Description,
    reduction: Reduction | None,
    file: Path | None,
    batch: int,
    precision: str | None,
) -> Throughput:
    """From a file, or from some training steps here."""
    from rmeeto.training import load_throughput, measure_throughput

    if file is not None:
        return load_throughput(file, described.config, reduction)
    network = build(model, unimportant_weights(model), impl="auto", reduction=reduction)
    network.reduction = reduction  # a folder's own reduction would stand in for "none"
    return measure_throughput(network, batch=batch, precision=precision or "auto", progress=console.progress())


def unimportant_weights(model: str) -> str | None:
    """Random weights, unless a folder has its own: speed does not depend on them, and they need no download."""
    from rmeeto.models.description import is_folder

    return None if is_folder(model) else RANDOM


def command(model: str, found: Forecast, accumulate: int, data: str) -> str:
    """The command of the run that was planned, on every node."""
    machines = found.minutes.machines
    launcher = ["rmeeto"]
    if machines.devices > 1:
        launcher = ["torchrun", *(["--nnodes", str(machines.nodes)] if machines.nodes > 1 else [])]
        launcher += ["--nproc-per-node", str(machines.gpus), "-m", "rmeeto"]
    run = ["retrain", model, "--reduce", found.reduction, "--data", data, "--epochs", str(found.job.epochs)]
    return shlex.join([*launcher, *run, "--batch", str(found.job.batch), "--accumulate", str(accumulate)])


def check_plot(path: Path) -> None:
    """Refuse a picture that cannot be written, before the work whose result it shows."""
    from rmeeto.viz import check_format

    check_format(path)
    check_output(path)


def draw(found: Forecast, path: Path) -> None:
    """Write the curve as a picture."""
    from rmeeto.report.minutes import minutes_figure
    from rmeeto.viz import save_figure

    epochs = f"{found.job.epochs} epoch{'s' if found.job.epochs > 1 else ''}"
    title = f"{found.model}, {found.reduction}: minutes of {epochs}"
    save_figure(minutes_figure(found.curve, title=title, paper=found.paper), path)
