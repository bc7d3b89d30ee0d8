"""Processes that do nothing but keep a core busy, and how much of the machine they leave."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

# Ends with its parent, however that ends; it looks some twenty times a second.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(1_000_000): pass"
SETTLE_SECONDS = 0.3  # until the system has found a core for each


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[list[int]]:
    """Keep ``count`` processes busy until the block is left, by whatever way; gives their ids."""
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
    """How many times the quiet time a program takes that gets as much of each core as everybody else."""
    return max(1.0, (threads + neighbours) / max(threads, cores))
