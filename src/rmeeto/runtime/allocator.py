"""Whether freed memory stays with the process."""

from __future__ import annotations

import ctypes

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Keep freed memory for later tensors instead of returning it to the system.

    glibc returns larger blocks at once. Every tensor of a forward pass then gets fresh pages, which the system clears
    one by one: on a processor that takes as long as the scans. The setting is of the whole process, whose memory then
    stays at its high water mark, so programs call this and libraries should not. The command line calls it.

    Returns:
        False if the C library has no such setting (macOS, Windows, musl); nothing has changed then.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)) and bool(mallopt(M_MMAP_THRESHOLD, KEPT_BYTES))
