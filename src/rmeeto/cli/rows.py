"""The table printed at the end of evaluation and re-training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column, Table

from rmeeto.cli import console

if TYPE_CHECKING:
    from rmeeto.evaluation.results import Row


def rows_table(rows: Sequence[Row], title: str) -> Table:
    """One line per state of the model, accuracy also as the distance to the first."""
    table = console.table(
        Column("model", no_wrap=True),
        console.number("top-1\n%"),
        console.number("change\npoints"),
        console.number("top-5\n%"),
        console.number("loss\n"),
        console.number("tokens\nat end"),
        console.number("paper\nG ops"),
        console.number("exact\nGFLOPs"),
        console.number("images/s\n(model)"),
        console.number("speed-up\n"),
        title=title,
    )
    first = rows[0]
    for row in rows:
        change = row.top1_percent - first.top1_percent
        table.add_row(
            escape(row.name),
            f"[bold]{row.top1_percent:.2f}[/]",
            "" if row is first else f"{change:+.2f}".replace("-", "−"),
            "—" if row.top5_percent is None else f"{row.top5_percent:.2f}",
            f"{row.loss:.3f}",
            str(row.tokens),
            operations(row.gflops_paper),
            operations(row.gflops_exact),
            f"{row.images_per_second:.0f}",
            f"{row.speedup:.2f}×",
        )
    return table


def operations(giga: float) -> str:
    """Two decimals, more for models of less than a tenth of a giga."""
    return f"{giga:.2f}" if giga >= 0.1 else f"{giga:.4f}"
