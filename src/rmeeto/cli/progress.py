"""Progress on stderr: bars with rate and remaining time on a terminal, one line per finished task elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text


@dataclass
class BarTask:
    """One bar."""

    bars: Progress
    id: TaskID

    def advance(self, n: int = 1, **fields: object) -> None:
        """Move the bar; the fields are shown after it."""
        if fields:
            self.bars.update(self.id, fields=shown(fields))
        self.bars.advance(self.id, n)


class Bars:
    """Bars for a terminal; a finished one leaves its line behind."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[BarTask]:
        """A bar of its own for each task; tasks follow one another."""
        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("[dim]{task.fields[fields]}[/]"),
            console=self.console,
            transient=True,
        )
        with bars:
            yield BarTask(bars, bars.add_task(description, total=total, fields=""))

    def message(self, text: str) -> None:
        """A line above the bars."""
        self.console.print(Text(text))


@dataclass
class LineTask:
    """Counts, and keeps the last fields for the line at the end."""

    done: int = 0
    fields: dict[str, object] = field(default_factory=dict)

    def advance(self, n: int = 1, **fields: object) -> None:
        """Count; nothing is shown before the end."""
        self.done += n
        self.fields |= fields


class Lines:
    """For files and pipes, where a bar would be thousands of lines."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[LineTask]:
        """One line when the task ends."""
        task, start = LineTask(), time.monotonic()
        try:
            yield task
        finally:
            seconds = time.monotonic() - start
            line = f"{description}: {task.done}/{total} in {seconds:.1f} s  {shown(task.fields)}"
            self.console.print(Text(line.rstrip()))

    def message(self, text: str) -> None:
        """A line."""
        self.console.print(Text(text))


def shown(fields: dict[str, object]) -> str:
    """``loss 0.312  840 images/s``: short figures, readable names."""
    return "  ".join(one_field(name, value) for name, value in fields.items())


def one_field(name: str, value: object) -> str:
    """One figure with its name or unit."""
    if not isinstance(value, float):
        return f"{name.replace('_', ' ')} {value}"
    if name.endswith("_per_second"):
        return f"{value:.0f} {name.removesuffix('_per_second')}/s"
    if name.endswith("_percent"):
        return f"{name.removesuffix('_percent').replace('_', ' ')} {value:.1f} %"
    return f"{name.replace('_', ' ')} {value:.4g}"
