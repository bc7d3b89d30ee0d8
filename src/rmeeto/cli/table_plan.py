"""``rmeeto table --dry-run``: the commands of a table, its operations and the accuracies that the paper prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rmeeto.cli import console
from rmeeto.experiments.cell import Cell
from rmeeto.experiments.commands import command
from rmeeto.experiments.definition import COUNTED, Table
from rmeeto.experiments.plan import Place, operations, places
from rmeeto.experiments.run import described, open_bases, open_cells, seconds_left
from rmeeto.experiments.scale import Scale
from rmeeto.experiments.store import Store
from rmeeto.experiments.work import Workshop
from rmeeto.report.words import duration, plural
from rmeeto.runtime.progress import SILENT


def show_plan(
    tables: Sequence[Table],
    scale: Scale,
    data: Mapping[str, str | None],
    store: Store,
    work: Path,
    seeds: int | None,
    as_json: bool,
) -> None:
    """Print what would be run; nothing is. work: the folder of base models."""
    plans = [(table, list(places(table, scale, data, seeds))) for table in tables]
    if as_json:
        listed = [
            {"table": table.name, "scale": scale.name, "places": [to_dict(place, scale, store) for place in found]}
            for table, found in plans
        ]
        console.print_json({"tables": listed})
        return
    for table, found in plans:
        print_plan(table, found, scale, store)
    everything = [place for _, found in plans for place in found]
    todo = open_cells(everything, scale, store)
    bases = open_bases(todo, Workshop(work, {}, 0, SILENT))
    if bases:
        own = duration(seconds_left([], bases, scale))
        whole = duration(seconds_left(todo, bases, scale))
        console.note(f"{plural(len(bases), 'base model')} to train first, about {own}; {whole} in all on two cores")


def to_dict(place: Place, scale: Scale, store: Store) -> dict[str, Any]:
    """One place for ``--json``."""
    gflops_paper, gflops_exact = operations(place, scale) if place.cells else (None, None)
    return {
        **place.coordinates,
        "reduction": place.reduction,
        "gflops_paper": gflops_paper,
        "gflops_exact": gflops_exact,
        "printed": place.row.printed.get(place.column.key),
        "counted": place.counted,
        "missing": place.missing,
        "cells": [
            {
                "key": cell.key,
                "done": store.find(cell) is not None,
                "seconds": place.seconds,
                "command": command(cell, address(cell.model, scale)),
                "identity": cell.identity,
            }
            for cell in place.cells
        ],
    }


def print_plan(table: Table, found: Sequence[Place], scale: Scale, store: Store) -> None:
    """One line per place, and under it the commands of its first repetition."""
    out = console.out()
    cells = {cell.key: place.seconds for place in found for cell in place.cells if store.find(cell) is None}
    left = f", about {duration(sum(cells.values()))} on two cores" if sum(cells.values()) else ""
    out.print(f"[bold]{table.place}: {table.title}[/] ({scale.name} scale, {len(cells)} cells to run{left})")
    for place in found:
        labels = ", ".join(f"{name} {value}" for name, value in place.row.coordinates.items())
        printed = place.row.printed.get(place.column.key)
        expected = "" if printed is None else f"; the paper prints {printed:.{place.column.digits}f}"
        if place.column.measure in COUNTED:
            out.print(f"  {labels}: {place.column.title} {place.counted:.{place.column.digits + 2}f}{expected}")
            continue
        if place.missing is not None:
            out.print(f"  {labels}, {place.column.title}: [dim]{place.missing}[/]{expected}")
            continue
        gflops_paper, gflops_exact = operations(place, scale)
        cost = f"{gflops_paper:.4g} G operations in the paper's convention, {gflops_exact:.4g} GFLOPs exactly"
        out.print(f"  {labels}, {place.column.title}: {place.reduction}; {cost}{expected}")
        first = place.cells[0]
        line = command(first, address(first.model, scale)) or described(first)
        more = f"   [dim]and {len(place.cells) - 1} more seeds[/]" if len(place.cells) > 1 else ""
        out.print(f"    [cyan]{line}[/]{more}", soft_wrap=True)
    if by_table := [cell for place in found for cell in place.cells if command(cell, "") is None]:
        data = " ".join(f"--data {name}={name.upper()}" for name in sorted({data_of(c, scale) for c in by_table}))
        name = f"rmeeto table {table.name} --scale {scale.name} {data}"
        out.print(f"  cells without a command of their own are run by [cyan]{name}[/]", soft_wrap=True)
    out.print()


def data_of(cell: Cell, scale: Scale) -> str:
    """The name of a cell's data set in the scale."""
    return scale.models[cell.model].data


def address(model: str, scale: Scale) -> str:
    """What a command says for the model's data set."""
    return scale.models[model].data.upper()
