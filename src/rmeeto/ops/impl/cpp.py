"""The operations in C++ on the processor."""

from __future__ import annotations


def absence() -> str | None:
    """Return why the compiled library cannot be used here, or None."""
    return "the C++ kernels were not built when rmeeto was installed"
