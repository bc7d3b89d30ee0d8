"""``rmeeto data``: look at a data set before a run depends on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from rmeeto.cli import console, options

if TYPE_CHECKING:
    from rmeeto.data.check import ClassReport, SplitReport

BROKEN = 1
CLASSES_SHOWN = 30
PROBLEMS_SHOWN = 20

data = typer.Typer(no_args_is_help=True, help="Look at a data set before a run depends on it.")


@data.callback()
def group() -> None:
    """Look at a data set before a run depends on it."""


@data.command()
def check(
    address: Annotated[
        str, typer.Argument(metavar="DIR", help="What --data takes: a folder of images, of clips, of lists of clips ….")
    ],
    workers: options.WorkersOption = 2,
    timeout_seconds: Annotated[
        float, typer.Option("--timeout-seconds", min=0.1, help="A clip that takes longer to decode counts as broken.")
    ] = 60.0,
    as_json: options.JsonOption = False,
) -> None:
    """Read every image, and every frame of every clip, and name what is broken.

    The exit code is 1 if anything is broken.
    """
    from rmeeto.data.check import check_data

    report = check_data(address, workers=workers, timeout_seconds=timeout_seconds, progress=console.progress())
    if as_json:
        console.print_json(report.to_dict())
    else:
        for split in report.splits:
            console.out().print(classes_table(split, f"{split.split} of {address}"), "")
            print_problems(split.broken)
    if not report.healthy:
        raise typer.Exit(BROKEN)


def classes_table(split: SplitReport, title: str) -> Table:
    """One line per class, or per class with problems if there are very many, and one line for all."""
    clips = split.kind == "clips"
    frames = [console.number("frames")] if clips else []
    table = console.table(
        "class", console.number(split.kind), console.number("broken"), console.number("pixels"), *frames, title=title
    )
    shown = [item for item in split.classes if item.broken or len(split.classes) <= CLASSES_SHOWN]
    for item in shown:
        table.add_row(escape(item.name), *figures(item, clips))
    whole = len(split.classes) - len(shown)
    if whole:
        table.add_row(f"{whole} classes without problems")
    items, lines = sum(item.items for item in split.classes), len(split.broken)
    table.add_row(f"[bold]{len(split.classes)} classes[/]", str(items), str(lines) if lines else "", end_section=True)
    return table


def figures(item: ClassReport, clips: bool) -> list[str]:
    """A class's numbers."""
    size = "" if item.width is None else f"{item.width} × {item.height}"
    frames = [str(item.frames or "")] if clips else []
    return [str(item.items), str(item.broken or ""), size, *frames]


def print_problems(broken: Sequence[str]) -> None:
    """The files and lines that cannot be used, and why."""
    for name in broken[:PROBLEMS_SHOWN]:
        console.note(f"broken: {name}")
    if len(broken) > PROBLEMS_SHOWN:
        console.note(f"… and {len(broken) - PROBLEMS_SHOWN} more (--json lists them all)")
