"""Processes that only keep a core busy, and the share of the machine that they leave."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

# Ends after its parent has ended; it checks some twenty times a second.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(1_000_000): pass"
SETTLE_SECONDS = 0.3  # until the system has found a core for each


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[list[int]]:
    """Keep ``count`` processes busy until the ``with`` block is left; gives their ids."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            running.append(subprocess.Popen([sys.executable, "-S", "-c", BUSY], stderr=subprocess.DEVNULL))
        time.sleep(SETTLE_SECONDS)
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fair_multiple(threads: int, neighbours: int, cores: int) -> float:
    """The multiple of the quiet time for a program that gets an equal share of each core."""
    return max(1.0, (threads + neighbours) / max(threads, cores))
