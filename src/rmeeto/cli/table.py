"""``rmeeto table``: a table or figure of the paper, run at full or small scale, beside the printed one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rmeeto.cli import console
from rmeeto.cli.options import JsonOption
from rmeeto.errors import ConfigError, UnknownName
from rmeeto.files.paths import check_output

if TYPE_CHECKING:
    from rmeeto.experiments.definition import Table
    from rmeeto.experiments.scale import Scale
    from rmeeto.experiments.store import Store
    from rmeeto.experiments.summary import Summary


def table(
    name: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="Its number: 5a, 13, fig2i. Without one, all are listed.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every table and figure.")] = False,
    scale: Annotated[str, typer.Option(metavar="NAME", help="full (ImageNet, published weights) or small.")] = "small",
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="Images, or NAME=DIR for a data set of the scale; repeat for several."),
    ] = None,
    store: Annotated[Path, typer.Option(metavar="DIR", help="Folder of finished cells, one file each.")] = Path(
        "rmeeto-tables"
    ),
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of base models and of the run under way.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Repetitions of each cell, if not the table's own.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Cells at a time; one per core, or one on a GPU.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", "-j", min=0, help="Processes that read images.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show commands, operations and printed accuracies; run nothing.")
    ] = False,
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write everything as one HTML page.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write every figure as a line of CSV.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the tables as Markdown.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a table of the paper, or go on with it, and compare: printed figures, ours, a verdict on every claim.

    Finished cells are kept in --store and never run again. Without --data nothing is run: what is there is shown.
    """
    from rmeeto.experiments.definition import list_tables, load_table
    from rmeeto.experiments.scale import load_scale
    from rmeeto.experiments.store import Store

    for path in (page, csv, markdown):
        if path is not None:
            check_output(path)
    if dry_run and (page or csv or markdown):
        raise ConfigError(
            "write tables of a dry run",
            given="--dry-run and an output file",
            why="a dry run prints what would be run; the files show what has been",
            fix="leave one of the two out",
        )
    if everything and name is not None:
        raise ConfigError(
            "show tables",
            given=f"{name} and --all",
            why="one is asked for, or every one",
            fix="leave one of the two out",
        )
    chosen = load_scale(scale)
    tables = [load_table(one) for one in (list_tables() if everything or name is None else [name])]
    kept = Store(store)
    for file, reason in kept.problems.items():
        console.note(f"{store / file} is left alone and its cell counts as not run: {reason}")
    addresses = data_addresses(chosen, data or [])
    fingerprints = fingerprints_of(chosen, addresses)
    if dry_run:
        from rmeeto.cli.table_plan import show_plan

        show_plan(tables, chosen, fingerprints, kept, work or store / "work", seeds, as_json)
        return
    if addresses and (name is not None or everything):
        run(tables, chosen, kept, work or store / "work", addresses, fingerprints, seeds, jobs, workers)
    from rmeeto.experiments.summary import summary

    found = [summary(one, chosen, fingerprints, kept, seeds) for one in tables]
    if page is not None:
        from rmeeto.experiments.page import write_page

        write_page(page, found, kept)
    if csv is not None or markdown is not None:
        from rmeeto.experiments.export import to_csv, to_markdown
        from rmeeto.files import durable

        for path, written in ((csv, to_csv), (markdown, to_markdown)):
            if path is not None:
                durable.write_text(path, written(found))
    if as_json:
        console.print_json({"tables": [one.to_dict() for one in found]})
    elif name is None:
        print_list(found, kept)
    else:
        from rmeeto.cli.table_result import print_summary

        print_summary(found[0])


def data_addresses(scale: Scale, given: Sequence[str]) -> dict[str, str]:
    """Addresses by the names of the scale's data sets, from ``NAME=DIR`` or ``DIR``.

    Raises:
        UnknownName: a name that the scale does not have.
        ConfigError: two addresses for one data set.
    """
    first, addresses = next(iter(scale.data)), dict[str, str]()
    for text in given:
        name, equals, address = text.partition("=")
        if equals and name not in scale.data and name.isidentifier() and not Path(text).exists():
            raise UnknownName(f"data set of the scale {scale.name}", name, scale.data)
        name, address = (name, address) if equals and name in scale.data else (first, text)
        if name in addresses:
            raise ConfigError(
                f"read {name} from {address}",
                given=f"{name}={addresses[name]} as well",
                why="a data set is in one place",
                fix=f"name another: {', '.join(f'--data {one}=DIR' for one in scale.data)}",
            )
        addresses[name] = address
    return addresses


def fingerprints_of(scale: Scale, addresses: dict[str, str]) -> dict[str, str | None]:
    """The fingerprint of each data set: of the one given, or else the one that the scale is about."""
    from rmeeto.experiments.work import fingerprint_of

    found: dict[str, str | None] = {name: one.fingerprint for name, one in scale.data.items()}
    for name, address in addresses.items():
        actual, expected = fingerprint_of(address), found[name]
        if expected is not None and actual != expected:
            console.note(
                f"{address} is not {scale.data[name].title} as the stored cells have it (fingerprint {actual}, "
                f"theirs {expected}): its figures are kept apart from theirs"
            )
        found[name] = actual
    return found


def run(
    tables: Sequence[Table],
    scale: Scale,
    store: Store,
    work: Path,
    addresses: dict[str, str],
    fingerprints: dict[str, str | None],
    seeds: int | None,
    jobs: int | None,
    workers: int,
) -> None:
    """Run what the store lacks and the given data allow."""
    from rmeeto.experiments.plan import places
    from rmeeto.experiments.run import open_bases, open_cells, run_cells, seconds_left, usual_jobs
    from rmeeto.experiments.work import Workshop
    from rmeeto.report.words import duration, plural

    found = [place for one in tables for place in places(one, scale, fingerprints, seeds)]
    todo = open_cells(found, scale, store)
    without = sorted({one.data for one in todo} - addresses.keys())
    if without:
        missing = sum(one.data in without for one in todo)
        hints = "; ".join(f"--data {name}=DIR, {scale.data[name].title}: {scale.data[name].where}" for name in without)
        console.note(f"{missing} of {len(todo)} cells need data that was not given: {hints}")
    todo = [one for one in todo if one.data in addresses]
    if not todo:
        return
    workshop = Workshop(work, addresses, workers, console.progress())
    bases = open_bases(todo, workshop)
    left = seconds_left(todo, bases, scale)
    about = f", about {duration(left)} on two cores" if left else ""
    first = f", {plural(len(bases), 'base model')} to train first" if bases else ""
    console.note(f"{plural(len(todo), 'cell')} to run{first}{about}")
    with store.locked():
        store.read()  # another run may have finished cells meanwhile
        todo = [one for one in todo if store.find(one.cell) is None]
        run_cells(todo, store, workshop, console.progress(), jobs or usual_jobs())


def print_list(found: Sequence[Summary], store: Store) -> None:
    """All tables, how far they are, and what came out."""
    from rmeeto.cli.table_result import COLOURS
    from rmeeto.experiments.summary import overall
    from rmeeto.report.words import duration

    shown = console.table(
        "table",
        "what it compares",
        console.number("cells\ndone"),
        console.number("time left,\ntwo cores"),
        "verdicts",
        title=found[0].scale.title,
    )
    for one in found:
        words = ", ".join(f"[{COLOURS.get(word, 'dim')}]{count} {word}[/]" for word, count in overall([one]).items())
        left = "" if one.complete else duration(one.seconds_left) if one.seconds_left else "unknown"
        shown.add_row(one.table.name, one.table.title, f"{one.done} of {one.cells}", left, words)
    console.out().print(shown)
    console.note(
        f"rmeeto table NAME shows one; cells are in {store.folder}; times are those of cells, without base models"
    )
