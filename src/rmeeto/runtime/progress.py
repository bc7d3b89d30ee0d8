"""Progress of long work: tasks that advance, and messages. The command line draws them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work with a known length."""

    def advance(self, n: int = 1, **fields: object) -> None:
        """Count n more units as done; ``fields`` (loss=0.31, images_per_second=840) may be shown beside them."""
        ...


class Progress(Protocol):
    """Receives the progress of library code, which never prints itself. Tasks follow one another, never nested."""

    def task(self, description: str, total: int) -> AbstractContextManager[Task]:
        """Announce work of ``total`` units; it ends with the ``with`` block, finished or not."""
        ...

    def message(self, text: str) -> None:
        """Print one message that stays on the screen."""
        ...


class _Silence:
    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        yield self

    def advance(self, n: int = 1, **fields: object) -> None:
        pass

    def message(self, text: str) -> None:
        pass


SILENT: Progress = _Silence()
"""Discards all progress."""
