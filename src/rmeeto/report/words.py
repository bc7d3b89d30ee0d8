"""Figures as people read them."""

from __future__ import annotations


def operations(gflops: float) -> str:
    """Operations in the unit that suits them: 3.58 G, 9.71 M."""
    return f"{gflops:.2f} G" if gflops >= 0.1 else f"{1e3 * gflops:.2f} M"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them: 42 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def signed(value: float) -> str:
    """One decimal with its sign: +0.4, −0.2, ±0.0."""
    text = f"{abs(value):.1f}"
    return f"±{text}" if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """``1 epoch``, ``6 epochs``."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
