"""How long a run has taken, and how long its training will still take."""

from __future__ import annotations

import time
from datetime import timedelta


class RunClock:
    """Starts when it is made. seconds_before: what earlier attempts of the run have taken."""

    def __init__(self, seconds_before: float) -> None:
        self._before, self._started = seconds_before, time.perf_counter()
        self._last_save = self._started
        self._steps, self._stepping_seconds = 0, 0.0

    def seconds(self) -> float:
        """Over all attempts."""
        return self._before + time.perf_counter() - self._started

    def step_taken(self, started: float) -> None:
        """Count a step that began at this reading of ``time.perf_counter``."""
        self._steps += 1
        self._stepping_seconds += time.perf_counter() - started

    def left(self, steps: int) -> str:
        """How long ``steps`` more steps will take at the mean speed of this attempt, evaluations not counted."""
        return str(timedelta(seconds=round(self._stepping_seconds / self._steps * steps)))

    def state_saved(self) -> None:
        """Begin to count :meth:`since_save` anew."""
        self._last_save = time.perf_counter()

    def since_save(self) -> float:
        """Seconds since the last saved state, or since the start."""
        return time.perf_counter() - self._last_save
