"""Ctrl-C and termination: stop where nothing is torn apart, save, and say how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rmeeto.errors import RunError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(RunError):
    """The run was asked to stop and has stopped in an orderly way."""

    exit_code = 130


class Interruption:
    """While active, a first signal asks for an orderly stop and a second one stops at once.

    Within :meth:`deferred` a signal only sets ``requested``; outside it raises :class:`Interrupted` on the spot.
    Signals reach the main thread only; elsewhere this does nothing.
    """

    def __init__(self, fix: str) -> None:
        self.requested = False
        self._deferring = 0
        self._fix = fix
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A block that signals must not tear apart; one that came in it is raised at its end.

        Of blocks within each other the end of the outermost counts.
        """
        self._deferring += 1
        try:
            yield
        finally:
            self._deferring -= 1
        if self.requested and not self._deferring:
            raise self.error()

    def error(self) -> Interrupted:
        """What to raise for an orderly stop."""
        return Interrupted("run to the end", why="it was interrupted", fix=self._fix)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()  # a second signal ends the process at once
        if not self._deferring:
            raise self.error()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
