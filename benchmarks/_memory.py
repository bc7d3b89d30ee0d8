"""Peak memory of one piece of work, in a new process, because a high water mark never falls."""

from __future__ import annotations

import ctypes
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from rmeeto.speed.memory import resident_mib

RESET = Path("/proc/self/clear_refs")
FROM_NOW_ON = "5"  # sets the high water mark to what is resident

Prepare = Callable[..., Callable[[], object]]


def grown_mib(
    prepare: Prepare, *arguments: object, device: torch.device, threads: int, processes: int = 1
) -> float | None:
    """MiB by which the peak rises above the memory held before; None on systems that do not report it.

    prepare: a function of a module; ``prepare(*arguments)`` makes all that is not counted (weights, inputs, what
        libraries set up at first use) and returns the work.
    processes: how many processes to try; the largest value counts, because reuse of freed memory varies.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rmeeto.models.vim.backbone"])  # imported once; no thread runs there yet
    peaks = []
    for _ in range(processes):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            peaks.append(pool.submit(_grown_mib, prepare, arguments, device, threads).result())
    return None if None in peaks else max(peaks)


def _grown_mib(prepare: Prepare, arguments: tuple, device: torch.device, threads: int) -> float | None:
    torch.set_num_threads(threads)
    work = prepare(*arguments)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return round((torch.cuda.max_memory_allocated(device) - before) / 2**20, 1)
    if not RESET.exists():
        return None
    give_back_freed()  # otherwise the work could use memory freed before, uncounted
    RESET.write_text(FROM_NOW_ON)
    before = resident_mib("VmHWM")
    work()
    return round(resident_mib("VmHWM") - before, 1)


def give_back_freed() -> None:
    """Let the C library return freed memory to the system (glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
