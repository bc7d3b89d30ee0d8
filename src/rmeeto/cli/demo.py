"""``rmeeto demo``: the whole idea on handwritten digits, in two minutes."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from rmeeto.cli import console, options
from rmeeto.cli.bench import print_verdicts
from rmeeto.cli.rows import rows_table


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for report and model.")] = Path(
        "rmeeto-demo"
    ),
    seconds: Annotated[float, typer.Option(metavar="S", help="How long it may take.")] = 120.0,
    open_report: Annotated[bool, typer.Option("--open", help="Open the report in a browser at the end.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Reduce and re-train a small Vision Mamba on handwritten digits, and write report.html.

    Needs no download and no GPU.
    """
    from rmeeto.demo import run_demo

    result = run_demo(output, budget_seconds=seconds, progress=console.progress())
    if as_json:
        console.print_json(result.to_dict())
    else:
        out = console.out()
        out.print(rows_table(result.results.rows, f"handwritten digits, {result.seconds:.0f} s in all"), "")
        for setting in result.speed.settings():
            print_verdicts(setting)
        out.print(f"\nreport: [bold]{result.report}[/]    model: [bold]{result.model}[/]")
    if open_report:
        webbrowser.open(result.report.resolve().as_uri())
