"""One process's share of the cases: each in ten seconds, and its memory watched."""

import resource
import signal
import sys
import time
import traceback
from collections import Counter

import torch

from fuzz.cases import base, kind_of, run_case

SECONDS = 10
MEMORY = 1 << 30  # bytes beyond what the process has when its first case begins


class TooLate(BaseException):
    """Raised by the alarm; no handler of errors takes it for one."""


def ring(*_):
    raise TooLate(f"not done within {SECONDS} s")


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_share(seed, first, cases, part, parts, queue):
    torch.set_num_threads(1)
    base()
    signal.signal(signal.SIGALRM, ring)
    endings, failures, slowest = Counter(), [], (0.0, -1)
    start = highest = peak()
    for number in range(first + part, first + cases, parts):
        kind, _ = kind_of(seed, number)
        began = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            ending = run_case(seed, number)
        except BaseException as error:  # that is what is looked for
            ending = "FAILED"
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{place.filename}:{place.lineno}"
            failures.append((number, kind.__name__, f"{type(error).__name__}: {str(error)[:300]}", where))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        slowest = max(slowest, (time.perf_counter() - began, number))
        if peak() > highest + (64 << 20):
            print(f"case {number}, {kind.__name__}: memory {(peak() - start) >> 20} MiB", file=sys.stderr)
        highest = peak()
        if highest - start > MEMORY:
            failures.append((number, kind.__name__, f"memory: {(highest - start) >> 20} MiB", ""))
            start = highest
        endings[kind.__name__, ending] += 1
    queue.put((endings, failures, slowest, highest))
