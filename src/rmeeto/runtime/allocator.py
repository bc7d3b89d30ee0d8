"""What becomes of memory that the process has freed."""

from __future__ import annotations

import ctypes

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Keep what freed tensors leave behind for those that follow, instead of handing it back to the system.

    glibc gives larger blocks back at once, so that every tensor of a forward pass gets fresh pages which the system
    has to clear, one by one: on a processor that takes as long as the scans. It is a setting of the whole process,
    whose memory then stays at its high water mark: for programs to make, not for libraries. The command line does.

    Returns:
        False where the C library has no such setting (macOS, Windows, musl): nothing has changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)) and bool(mallopt(M_MMAP_THRESHOLD, KEPT_BYTES))
