"""``rmeeto bench MODEL --against RIVAL``: a rival's engines beside our model, over image sizes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column, Table

from rmeeto.cli import console
from rmeeto.cli.flops import default_reductions
from rmeeto.cli.model import RANDOM
from rmeeto.cli.options import Impl, whole_numbers
from rmeeto.cli.plan import check_plot
from rmeeto.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rmeeto.models.description import Description
    from rmeeto.reduction import Reduction
    from rmeeto.speed import AgainstReport, Timing

SIZES = "224,384,512,768"


def default_shares(described: Description) -> list[str]:
    """The default reductions by their ratio: the same r would be a smaller share of a larger image's tokens."""
    from dataclasses import replace

    from rmeeto.cost import stack_of
    from rmeeto.reduction import parse_reduction
    from rmeeto.reduction.methods.scheduled import ScheduledReduction

    shares = []
    for line in default_reductions(described):
        reduction = parse_reduction(line)
        if isinstance(reduction, ScheduledReduction) and reduction.r is not None:
            ratio = round(reduction.schedule(stack_of(described.config)).ratio, 2)
            reduction = replace(reduction, r=None, ratio=ratio)
        shares.append(str(reduction or "none"))
    return shares


def refuse_contradictions(
    against: str | None, sizes: str | None, plot: Path | None, *, compile: bool, record: bool, weights: str | None
) -> None:
    """Raise :class:`ConfigError` for options of the one kind of measurement that were given for the other."""
    if against is None:
        given = {"--sizes": sizes is not None, "--plot": plot is not None}
        why, fix = "without a rival there is one image size", "add --against, for instance --against deit_small"
    else:
        given = {"--compile": compile, "--record": record, "--weights": weights not in (None, RANDOM)}
        why = "a model runs frozen beside a rival, on the processor, with random weights or those of its folder"
        fix = "leave it out, or leave --against out"
    for option, is_given in given.items():
        if is_given:
            raise ConfigError(
                f"bench {'without' if against is None else 'with'} --against and with {option}", why=why, fix=fix
            )
    if plot is not None:
        check_plot(plot)


def measure_against(
    model: str,
    rival: str,
    reductions: Sequence[Reduction],
    *,
    sizes: str | None,
    batches: Sequence[int],
    precisions: Sequence[str],
    impl: Impl,
    rounds: int,
    budget_seconds: float,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure, draw and print."""
    from rmeeto.speed import bench_against

    report = bench_against(
        model,
        reductions,
        rival,
        sizes=whole_numbers("--sizes", sizes or SIZES, least=1),
        batches=batches,
        precisions=precisions,
        impl=impl,
        rounds=rounds,
        budget_seconds=budget_seconds,
        progress=console.progress(),
    )
    if plot is not None:
        draw(report, plot)
    if as_json:
        console.print_json(report.to_dict())
    else:
        print_against(report, plot)


def draw(report: AgainstReport, path: Path) -> None:
    """Write the curves as a picture."""
    from rmeeto.report.against import against_figure
    from rmeeto.viz import save_figure

    save_figure(against_figure(report), path)


def print_against(report: AgainstReport, plot: Path | None) -> None:
    """A table per setting with a sentence for each of our variants under it."""
    out, threads = console.out(), report.machine.threads
    out.print(
        f"[bold]{escape(report.model)}[/] against [bold]{escape(report.rival)}[/] on "
        f"{escape(report.machine.processor)}, {threads} thread{'' if threads == 1 else 's'}, {report.impl} kernels, "
        f"{report.rounds} rounds"
    )
    for setting in report.settings():
        out.print("", setting_table(report, setting))
        for sentence in report.sentences(setting):
            out.print(escape(sentence))
        for way in {str(one.way) for size in report.sizes for one in report.at(setting, size) if one.way is not None}:
            out.print(f"[dim]{escape(report.model)} → {escape(way)}[/]")
    if plot is not None:
        out.print("", f"wrote [bold]{escape(str(plot))}[/]")


def setting_table(report: AgainstReport, setting: tuple[int, str]) -> Table:
    """A line per variant and a column per image size; what was not measured says why."""
    batch, precision = setting
    table = console.table(
        Column("model"),
        Column("variant", overflow="fold"),
        *(console.number(f"{size} px\nms/image and ×") for size in report.sizes),
        title=f"{precision}, batch {batch}; × is how many times faster than the rival's fastest engine",
    )
    lines: dict[tuple[str, str], list[Timing]] = {}
    for size in report.sizes:
        for one in report.at(setting, size):
            lines.setdefault((one.model, one.variant), []).append(one)
    for (model, variant), timings in lines.items():
        why = next((one.absent for one in timings if one.absent is not None), None)
        cells = [cell(report, one) for one in timings]
        table.add_row(model, variant if why is None else f"{variant}: [dim]{escape(why)}[/]", *cells)
    return table


def cell(report: AgainstReport, timing: Timing) -> str:
    """``48.3 1.10×``; a dash if it was not measured."""
    if timing.absent is not None:
        return "—"
    time, ratio = timing.ms_per_image, report.speedup(timing).median
    digits = 0 if time >= 100 else 1
    return f"{time:,.{digits}f} [dim]{ratio:.2f}×[/]"
