"""Values that a TOML file holds: checked against the type of their field, and printed."""

from __future__ import annotations

import json
import math
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from rmeeto.errors import ConfigError, UnknownName
from rmeeto.files.paths import shown

MOST = 2**62  # of a whole number: seeds, steps and sizes are computed with as 64-bit ones


def checked(name: str, value: object, hint: Any) -> object:
    """The value as its field's type: whole numbers serve as floats, ``"none"`` is None if the field allows None."""
    kinds = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    if NoneType in kinds and (value is None or value == "none"):
        return None
    for kind in kinds:
        if get_origin(kind) is tuple:
            return value
        if get_origin(kind) is Literal:
            if not isinstance(value, str) or value not in get_args(kind):
                raise UnknownName(name, str(value), get_args(kind))
            return value
        if kind is bool and isinstance(value, bool):
            return value
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return _finite(name, value)
        if kind is int and isinstance(value, int) and not isinstance(value, bool):
            if abs(value) > MOST:
                raise ConfigError(f"set {name}", given="a number of more than 62 bits", why=f"{name} is smaller")
            return value
        if kind is str and isinstance(value, str):
            check_text(name, value)
            return value
    wanted = " or ".join("none" if kind is NoneType else kind.__name__ for kind in kinds)
    raise ConfigError(f"set {name}", given=f"{value!r} ({type(value).__name__})", why=f"{name} is of type {wanted}")


def _finite(name: str, value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ConfigError(f"set {name}", given=f"{number}", why=f"{name} is a finite number")
    return number


def check_text(name: str, value: str) -> None:
    """Raise :class:`ConfigError` for a string that a TOML file cannot hold, such as a path that is not UTF-8."""
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ConfigError(
            f"set {name}",
            given=f'"{shown(value[:200])}"',
            why="a recipe is text in UTF-8, and this is not",
            fix="rename that file or folder, or make a link to it with another name",
        )


def to_toml(value: object) -> str:
    """The value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"[{', '.join(map(to_toml, value))}]"
    return repr(value)
