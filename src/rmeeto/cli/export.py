"""``rmeeto export``: a model for another runtime, checked there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from rmeeto.cli import console, options
from rmeeto.cli.model import build, fitting_reductions
from rmeeto.errors import ConfigError

if TYPE_CHECKING:
    from rmeeto.exporting.parity import Parity


def export(
    model: options.ModelArgument,
    reduce: options.ReduceOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="A new folder for the model and all it needs.")
    ] = None,
    format: Annotated[str, typer.Option("--format", metavar="NAME", help="onnx, pt2 or native.")] = "onnx",
    batch: Annotated[
        str, typer.Option("--batch", "-b", metavar="N", help="Inputs at a time: 1, another number, or dynamic.")
    ] = "1",
    maps: Annotated[bool, typer.Option("--maps", help="Give the source map as a second output.")] = False,
    precision: Annotated[str, typer.Option(metavar="NAME", help="float32.")] = "float32",
    check: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Real images (clips for a video model) for the check.")
    ] = None,
    count: Annotated[int | None, typer.Option("--images", min=1, metavar="N", help="How many of them.")] = None,
    weights: options.WeightsOption = None,
    every: Annotated[bool, typer.Option("--all", help="Every format, each in a folder of its own.")] = False,
    table: Annotated[bool, typer.Option("--table", help="Only the table: without --output no file is kept.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Write a model for another runtime, and check that it computes the same there.

    The check compares, in each installed runtime, what is merged at every block and the logits with the model in
    float64. If they differ the exit code is 2, and the files stay.
    """
    size = batch_size(batch)
    if output is None and not table:
        raise ConfigError(
            f"export {model}", why="nothing says where to", fix="--output DIR, or --table for the figures"
        )

    from rmeeto.evaluation.prediction import saved_class_names
    from rmeeto.exporting import FORMATS, export_all
    from rmeeto.exporting import export as write
    from rmeeto.exporting.parity import ParityError
    from rmeeto.models.description import describe

    described = describe(model)
    (reduction,) = fitting_reductions(described, [reduce]) if reduce is not None else [None]
    network = build(model, weights, impl="auto", reduction=reduction)
    if reduce == "none":
        network.reduction = None
    with tempfile.TemporaryDirectory() as scratch:
        folder = output if output is not None else Path(scratch) / "export"
        given = {
            "batch": size,
            "check": check,
            "count": count,
            "name": described.name,
            "labels": None if described.folder is None else saved_class_names(described.folder),
            "progress": console.progress(),
        }
        failed: ParityError | None = None
        if every:
            parity = export_all(network, folder, **given)  # type: ignore[arg-type]
            failed = None if parity.passed else ParityError.of(parity, str(folder))
        else:
            try:
                parity = write(network, folder, format=format, maps=maps, precision=precision, **given).parity  # type: ignore[arg-type]
            except ParityError as error:
                parity, failed = error.parity, error
    if as_json:
        console.print_json({**parity.to_dict(), "folder": None if output is None else str(output)})
    else:
        console.out().print(parity_table(parity))
        if output is not None and failed is None:
            kinds = ", ".join(kind for kind in FORMATS if kind not in parity.refused)
            written = f"one folder per format: {kinds}" if every else "python run.py FILE runs it"
            console.note(f"written to {output} ({written})")
    for kind, why in parity.refused.items():
        console.note(f"not written: {kind}. {why}")
    if failed is not None:
        raise failed


def batch_size(text: str) -> int | None:
    """``--batch``: a number, or None for dynamic.

    Raises:
        ConfigError: neither.
    """
    if text == "dynamic":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise ConfigError(f"export with --batch {text}", why="it is a whole number from 1 on, or the word dynamic")


def parity_table(parity: Parity) -> Table:
    """One row for each runtime and batch size."""
    table = console.table(
        "format",
        Column("runtime", overflow="fold"),
        "precision",
        console.number("batch"),
        console.number("MB"),
        console.number("load\ns"),
        console.number("ms per\ninput"),
        console.number("× frozen\nmodel"),
        console.number("plans\nequal"),
        console.number("ties"),
        console.number("worst\nlogit"),
        "check",
        title=f"{parity.model}, {parity.reduction}; frozen in rmeeto: {parity.frozen_ms:.1f} ms",
    )
    for row in parity.rows:
        ties = sum(one.margin <= row.tie for one in row.differences)
        verdict = "[green]passed[/]" if row.passed else "[red]failed[/]"
        table.add_row(
            row.format,
            row.runtime,
            row.precision,
            str(row.batch),
            f"{row.megabytes:.1f}",
            f"{row.load_seconds:.2f}",
            f"{row.ms_per_input:.1f}",
            f"{row.ms_per_input / parity.frozen_ms:.2f}",
            f"{row.plans_equal} of {row.inputs}",
            str(ties),
            "–" if row.worst_logit is None else f"{row.worst_logit:.1e}",
            verdict if row.gated else "not gated",
        )
    return table
