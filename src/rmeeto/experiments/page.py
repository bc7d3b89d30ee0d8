"""The page of the tables: one self-contained HTML file, made from the store's cells and from nothing else.

The same cells give the same page, byte for byte: it has no date and no place of this machine in it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rmeeto.experiments.across import laid_out
from rmeeto.experiments.calibration import Calibration, calibrations
from rmeeto.experiments.charts import charts
from rmeeto.experiments.definition import Table
from rmeeto.experiments.export import to_csv, to_markdown
from rmeeto.experiments.gallery import Gallery, galleries
from rmeeto.experiments.grid import Grid
from rmeeto.experiments.origin import HEADS, Origin
from rmeeto.experiments.scale import Scale
from rmeeto.experiments.shown_claim import STYLES, ShownClaim, shown_claim
from rmeeto.experiments.shown_scale import stand_ins, trainings
from rmeeto.experiments.store import Store
from rmeeto.experiments.strongest import strongest
from rmeeto.experiments.summary import Summary, undecidable
from rmeeto.experiments.tally import tally
from rmeeto.files import durable
from rmeeto.report.svg import Chart
from rmeeto.report.templates import render
from rmeeto.report.words import duration, plural

MOST_SHOWN = 4  # strongest results of either kind
MOST_ROWS = 30  # of a table that is open
MOST_COLUMNS = 9  # of a table that is as wide as the text


@dataclass(frozen=True)
class TablePart:
    """A table on the page. csv, markdown: ``data:`` addresses. cells: key and place of each of its cells.

    calibrations: what its estimators give where the truth is known. galleries: its pictures.
    """

    ident: str
    table: Table
    state: str
    grid: Grid
    calibrations: tuple[Calibration, ...]
    galleries: tuple[Gallery, ...]
    charts: tuple[Chart, ...]
    claims: tuple[ShownClaim, ...]
    csv: str
    markdown: str
    cells: tuple[tuple[str, ...], ...]


def write_page(path: Path, summaries: Sequence[Summary], store: Store) -> None:
    """Write the page of these tables, which are all at one scale.

    Raises:
        RunError: the disk refuses it; an older page is still there.
    """
    durable.write_text(path, page(summaries, store))


def page(summaries: Sequence[Summary], store: Store) -> str:
    """The page as HTML. summaries: at least one, all at one scale. store: the one they were made from."""
    scale, origin = summaries[0].scale, Origin.of(summaries, store)
    parts = [table_part(one, store) for one in summaries]
    claims = {(part.table.name, number): claim for part in parts for number, claim in enumerate(part.claims)}
    main = [(one, number) for one in summaries for number, judged in enumerate(one.judged) if judged.claim.main]
    told = [one.judged[number] for one, number in main]
    best = {word: strongest(summaries, word, MOST_SHOWN, told) for word in ("holds", "does not hold")}
    leading = {
        name: [(one.table, claims[one.table.name, number]) for one, number in found]
        for name, found in {"main": main, **best}.items()
    }
    return render(
        "paper.html.j2",
        title=f"R-MeeTo, table by table ({scale.name} scale)",
        scale=scale,
        trained=scale.base is not None,
        scope=scope([one.table for one in summaries]),
        facts=facts(scale, origin),
        styles=STYLES,
        counts=tally(summaries),
        claims=len(claims),
        undecidable=undecidable(summaries),
        leading=leading,
        parts=parts,
        most_rows=MOST_ROWS,
        most_columns=MOST_COLUMNS,
        models=stand_ins(scale, origin.results),
        trainings=trainings(scale),
        origin=origin,
        heads=HEADS,
        csv=address("text/csv", origin.to_csv()),
    )


def scope(tables: Sequence[Table]) -> str:
    """Which tables the page is about."""
    own = sum(table.beyond for table in tables)
    theirs = plural(len(tables) - own, "table or figure", "tables and figures")
    of_paper = f"{theirs} of the paper “Faster Vision Mamba is Rebuilt in Minutes via Merged Token Re-training”"
    return of_paper + (f" and {own} beyond it" if own else "")


def facts(scale: Scale, origin: Origin) -> list[tuple[str, list[str]]]:
    """What the figures depend on, by name."""
    known = {one.fingerprint: f"{one.title} (fingerprint {one.fingerprint})" for one in scale.data.values()}
    used = [known.get(one, f"other data (fingerprint {one})") for one in origin.data()]
    done = f"{len(origin.results):,} of {plural(origin.planned, 'cell')}: a cell is one model, scored or timed once"
    time = f"{duration(origin.seconds)} for all cells, added up; the training of the base models is not counted"
    found = [
        ("scale", [scale.title]),
        ("data", used or [one.title for one in scale.data.values()]),
        ("cells", [done]),
        ("time", [time]),
        ("machines", origin.machines()),
        ("versions", origin.versions()),
        ("commits", origin.commits()),
    ]
    return [
        (name, values) for name, values in found if values and (origin.results or name in ("scale", "data", "cells"))
    ]


def table_part(one: Summary, store: Store) -> TablePart:
    """A table's part of the page."""
    table = one.table
    ident = f"table-{table.name}"
    state = f"{one.done} of {plural(one.cells, 'cell')} run" if one.cells else "nothing to run"
    return TablePart(
        ident,
        table,
        state,
        laid_out(one),
        tuple(calibrations(one, store)),
        tuple(galleries(one, store)),
        tuple(charts(one)),
        tuple(shown_claim(f"{ident}-claim-{number}", table, judged) for number, judged in enumerate(one.judged, 1)),
        address("text/csv", to_csv([one])),
        address("text/markdown", to_markdown([one])),
        tuple(cell_lines(one)),
    )


def cell_lines(one: Summary) -> list[tuple[str, ...]]:
    """Labels, column, reduction line and keys of each place that has cells."""
    labels = one.table.labels()
    return [
        (
            ", ".join(str(row.coordinates[name]) for name in labels if name in row.coordinates),
            column.title,
            figure.reduction,
            " ".join(figure.keys),
        )
        for row, figures in zip(one.table.rows, one.figures, strict=True)
        for column, figure in zip(one.table.columns, figures, strict=True)
        if figure.keys
    ]


def address(kind: str, text: str) -> str:
    """A ``data:`` address that holds a text."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode('utf-8', 'backslashreplace')).decode()}"
