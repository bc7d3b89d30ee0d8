"""How long work tells whoever watches: tasks that advance, and messages. The command line draws them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work with a known length."""

    def advance(self, n: int = 1, **fields: object) -> None:
        """Another n units are done; ``fields`` (loss=0.31, images_per_second=840) may be shown beside them."""
        ...


class Progress(Protocol):
    """Whoever watches. Library code only speaks; it neither draws nor asks. Tasks follow one another, never nested."""

    def task(self, description: str, total: int) -> AbstractContextManager[Task]:
        """Announce work of ``total`` units; it ends with the block, finished or not."""
        ...

    def message(self, text: str) -> None:
        """Say one thing that should stay on the screen."""
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
"""Nobody watches."""
