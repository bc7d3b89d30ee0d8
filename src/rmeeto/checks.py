"""Checks of numbers given by users, with one wording."""

from __future__ import annotations

import math
import operator

from rmeeto.errors import ConfigError


def whole_number(asked: str, name: str, value: object, *, least: int = 1, most: int | None = None) -> int:
    """A whole number within bounds, as an int; NumPy's and PyTorch's are welcome, True and 2.0 are not.

    asked: the error's first line.

    Raises:
        ConfigError: something else, or outside the bounds.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None:
        raise ConfigError(asked, given=_given(name, value), why=f"{name} is a whole number")
    if number < least or (most is not None and number > most):
        raise ConfigError(asked, given=_given(name, number), why=f"{name} is {_bounds(least, most)}")
    return number


def number(
    asked: str, name: str, value: object, *, least: float = -math.inf, most: float = math.inf, open_ends: bool = False
) -> float:
    """A finite number within bounds, as a float. open_ends: the bounds themselves are not allowed.

    Raises:
        ConfigError: something else, NaN or infinity, or outside the bounds.
    """
    try:
        result = math.nan if isinstance(value, bool | str | bytes) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        result = math.nan
    if not math.isfinite(result):
        raise ConfigError(asked, given=_given(name, value), why=f"{name} is a finite number")
    if not (least < result < most if open_ends else least <= result <= most):
        words = f"above {least:g}, below {most:g}" if open_ends else _bounds(least, most)
        raise ConfigError(asked, given=_given(name, result), why=f"{name} is {words}")
    return result


def _bounds(least: float, most: float | None) -> str:
    if most is None or most == math.inf:
        return f"at least {least:,}"
    return f"at least {least:,}, at most {most:,}"


def _given(name: str, value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = "a number of thousands of digits"
    short = text if len(text) <= 80 else f"{text[:80]} …"
    return f"{name}={short}" if isinstance(value, int | float) else f"{name}={short} ({type(value).__name__})"
