"""Output of the command line: tables on stdout; progress, warnings and errors on stderr.

Under a launcher such as torchrun only the first process prints; errors are printed by the process that fails.
"""

from __future__ import annotations

import codecs
import io
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from rmeeto.cli.failures import wants_traceback
from rmeeto.cli.progress import Bars, Lines
from rmeeto.errors import RmeetoError
from rmeeto.files.jsontext import to_json
from rmeeto.files.paths import AS_BYTES
from rmeeto.runtime.progress import SILENT, Progress

PIPE_WIDTH = 160  # a file has no width; a table in it should not be cut at 80 columns


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


class _Console(Console):
    """Raises an ordinary exception if the reader of a pipe has gone, so that a run saves its state before it ends."""

    def on_broken_pipe(self) -> None:
        """Called while the error is handled."""
        raise


def _console(stream: TextIO) -> Console:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=AS_BYTES)  # names of files may be in any encoding
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return _Console(file=stream, width=width, highlight=False)


def out() -> Console:
    """For results. Made for each use, because stdout may be redirected between two uses."""
    console = _console(sys.stdout)
    console.quiet = not _is_first_process()
    return console


def err() -> Console:
    """For everything that is not the result."""
    return _console(sys.stderr)


def print_json(value: object) -> None:
    """The whole result as one JSON object on stdout."""
    if _is_first_process():
        unicode = codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name.startswith("utf")
        sys.stdout.write((to_json(value, indent=2) if unicode else json.dumps(value, indent=2)) + "\n")


def number(header: str) -> Column:
    """A column of figures."""
    return Column(header, justify="right", no_wrap=True)


def table(*columns: str | Column, title: str | None = None) -> Table:
    """An empty table in the style that all commands use; columns given by name hold text."""
    return Table(
        *columns,
        title=None if title is None else escape(title),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title_justify="left",
        title_style="bold",
        header_style="dim",
        pad_edge=False,
        show_edge=False,
    )


def progress() -> Progress:
    """What receives progress: bars on a terminal, lines elsewhere."""
    if not _is_first_process():
        return SILENT
    console = err()
    return Bars(console) if console.is_terminal else Lines(console)


def note(text: str) -> None:
    """One line on stderr."""
    if _is_first_process():
        err().print(Text(text))


def show_failure(error: Exception, explained: RmeetoError) -> None:
    """What ended a command, as one panel on stderr, after the traceback if the user asked for it."""
    _discard_broken_output(error)
    with suppress(OSError, ValueError):  # of a stderr that is closed as well
        if wants_traceback():
            sys.stderr.write("".join(traceback.format_exception(error)))
        show_error(explained)


def show_error(error: RmeetoError) -> None:
    """An error as a panel on stderr: what was asked, what was given, why not, and the way out."""
    rows = Table.grid(Column(style="dim"), Column(overflow="fold"), padding=(0, 2, 0, 0))
    told = [("given", error.given), ("why", error.why), ("fix", error.fix)]
    for label, text in [*told, *(("note", note) for note in getattr(error, "__notes__", ()))]:
        if text is not None:
            rows.add_row(label, Text(text, style="green" if label == "fix" else ""))
    asked = Text(error.asked, style="bold", overflow="fold")
    err().print(Panel(Group(asked, rows), title="error", title_align="left", border_style="red"))


def _discard_broken_output(error: Exception) -> None:
    """Drop output buffered for a closed pipe, which would make Python print an error when it ends."""
    if isinstance(error, BrokenPipeError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def only_our_words() -> Iterator[None]:
    """Show rmeeto's own warnings as one line without file and line number, others as Python does.

    The hub's client logs every retry; the error at the end says the same once.
    """
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_plainly(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if category.__module__.startswith("rmeeto"):
                err().print(Text.assemble(("note  ", "yellow"), str(message)))
            else:
                show(message, category, *where, **more)

        warnings.showwarning = show_plainly
        yield
