"""``rmeeto bench``: is the reduced model faster here, and by how much."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from rmeeto.cli import console, options
from rmeeto.cli.against import default_shares, measure_against, refuse_contradictions
from rmeeto.cli.flops import default_reductions
from rmeeto.cli.model import RANDOM, build, fitting_reductions
from rmeeto.errors import ConfigError

if TYPE_CHECKING:
    from rmeeto.speed import BenchReport, Measurement, Spread
    from rmeeto.speed.report import Running


rival = partial(typer.Option, rich_help_panel="Against another model, on this processor")


def bench(
    model: options.ModelArgument,
    reduce: options.ReducesOption = None,
    r: Annotated[str | None, typer.Option("--r", metavar="R,…", help="Short for --reduce merge:r=R, for each.")] = None,
    batch: Annotated[
        str, typer.Option("--batch", "-b", metavar="N,…", help="Images at a time; several to compare.")
    ] = "1,8",
    precision: Annotated[
        str, typer.Option(metavar="NAME,…", help="float32, bfloat16 (autocast), or both.")
    ] = "float32",
    compile: Annotated[bool, typer.Option("--compile", help="Run through torch.compile.")] = False,
    record: Annotated[bool, typer.Option("--record", help="Run as a CUDA graph.")] = False,
    rounds: Annotated[int, typer.Option(min=5, help="Timed passes per variant.")] = 20,
    seconds: Annotated[
        float, typer.Option(min=0, help="Stop a setting's rounds, after the fifth, at this time.")
    ] = 30.0,
    memory: Annotated[bool, typer.Option(help="Measure peak memory, each variant in a new process.")] = True,
    weights: options.WeightsOption = None,
    impl: options.ImplOption = "auto",
    against: Annotated[
        str | None,
        rival(metavar="NAME", help="deit_small or another Vision Transformer of timm, in every engine installed."),
    ] = None,
    sizes: Annotated[
        str | None, rival(metavar="PX,…", help="Image sizes; by default 224,384,512,768. Needs --against.")
    ] = None,
    plot: Annotated[
        Path | None, rival(metavar="FILE", help="Draw ms per image over image size: .svg, .png, .pdf.")
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Measure throughput, latency and memory, reduced and not, with a verdict.

    Variants take turns, so that noise hits them alike. Weights are random unless given.

    With --against, also a rival in PyTorch, ONNX Runtime and OpenVINO, over image sizes: from which size on is the
    reduced model faster? The default reduction is then a ratio, the same at every size; memory is not measured.
    """
    batches = options.whole_numbers("--batch", batch, least=1)
    precisions = [name.strip() for name in precision.split(",")]
    lines = list(reduce or [])
    if r is not None:
        lines += ["merge:r=" + str(number) for number in options.whole_numbers("--r", r, least=0)]

    refuse_contradictions(against, sizes, plot, compile=compile, record=record, weights=weights)

    from rmeeto.models.description import describe, is_folder
    from rmeeto.speed import bench as measure

    described = describe(model)
    lines = lines or (default_reductions(described) if against is None else default_shares(described))
    parsed = fitting_reductions(described, (line for line in lines if line != "merge:r=0"))
    reductions = [reduction for reduction in parsed if reduction is not None]
    if against is not None:
        measure_against(
            model,
            against,
            reductions,
            sizes=sizes,
            batches=batches,
            precisions=precisions,
            impl=impl,
            rounds=rounds,
            budget_seconds=seconds,
            plot=plot,
            as_json=as_json,
        )
        return
    report = measure(
        build(model, weights or (None if is_folder(model) else RANDOM), impl=impl),  # speed does not depend on weights
        reductions,
        name=described.name,
        batches=batches,
        precisions=precisions,
        running=how(compile=compile, record=record),
        rounds=rounds,
        budget_seconds=seconds,
        memory=memory,
        progress=console.progress(),
    )
    if as_json:
        console.print_json(report.to_dict())
    else:
        print_report(report)


def how(*, compile: bool, record: bool) -> Running:
    """One of the ways a model can run."""
    if compile and record:
        raise ConfigError(
            "bench with --compile and --record", why="a model runs one way or the other", fix="measure them in turn"
        )
    return "compiled" if compile else "recorded" if record else "eager"


def print_report(report: BenchReport) -> None:
    """A table per setting with its verdicts under it."""
    out, machine = console.out(), report.machine
    hardware = machine.processor if report.device == "cpu" else ", ".join(machine.accelerators)
    how = f"{report.impl} kernels, {report.running}, {report.rounds} rounds"
    threads = "1 thread" if machine.threads == 1 else f"{machine.threads} threads"
    out.print(f"[bold]{escape(report.model)}[/] on {escape(hardware)}, {threads}, {how}")
    for setting in report.settings():
        out.print("", setting_table(setting))
        print_verdicts(setting)
        print_ways(setting)


def setting_table(setting: tuple[Measurement, ...]) -> Table:
    """All variants at one batch size and precision."""
    table = console.table(
        Column("reduction", overflow="fold"),
        console.number("tokens\nat end"),
        console.number("images/s\nquartiles"),
        console.number("ms per batch\nquartiles"),
        console.number("speed-up\nmeasured"),
        console.number("by exact\nFLOPs"),
        console.number("time in\nreduction"),
        console.number("peak\nMiB"),
        title=f"batch {setting[0].batch}, {setting[0].precision}",
    )
    for one in setting:
        table.add_row(
            one.reduction,
            str(one.tokens),
            spread(one.images_per_second),
            spread(one.latency_ms),
            f"{one.speedup.median:.2f}×",
            f"{one.flops_speedup:.2f}×",
            "—" if one.reduction_share is None else f"{100 * one.reduction_share:.1f} %",
            "—" if one.peak_memory_mib is None else f"{one.peak_memory_mib:.0f}",
        )
    return table


def spread(value: Spread) -> str:
    """The median, and the quartiles in dim type."""
    digits = 0 if value.median >= 100 else 1 if value.median >= 10 else 2
    return f"{value.median:.{digits}f} [dim]{value.lower:.{digits}f}–{value.upper:.{digits}f}[/]"


def print_verdicts(setting: tuple[Measurement, ...]) -> None:
    """What to conclude, a sentence for each reduction."""
    from rmeeto.speed import verdict

    for measured in setting:
        sentence = verdict(measured, setting)
        if sentence is not None:
            mark = "[green]▲[/]" if measured.faster else "[red]▼[/]" if measured.slower else "[yellow]●[/]"
            line = Table.grid(padding=(0, 1, 0, 0))
            line.add_row(mark, f"[bold]{escape(measured.reduction)}[/]: {escape(sentence)}")
            console.out().print(line)


def print_ways(setting: tuple[Measurement, ...]) -> None:
    """Which way the variants went, and what stopped a faster one."""
    groups: dict[str, list[str]] = {}
    for measured in setting:
        if measured.way is not None:
            groups.setdefault(str(measured.way), []).append(measured.reduction)
    for way, reductions in groups.items():
        console.out().print(f"[dim]{escape(', '.join(reductions))} → {escape(way)}[/]")
