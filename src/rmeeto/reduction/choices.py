"""Checks shared by the reduction values: every ``Literal`` field must hold one of its choices."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rmeeto.errors import ConfigError, UnknownName
from rmeeto.reduction.schedule import Stack


def literal_fields(kind: Any) -> dict[str, tuple[object, ...]]:
    """The ``Literal`` fields of a dataclass and their choices."""
    hints = get_type_hints(kind)
    return {f.name: get_args(hints[f.name]) for f in fields(kind) if get_origin(hints[f.name]) is Literal}


def check_choices(value: Any) -> None:
    """Raise :class:`UnknownName` for a ``Literal`` field that holds none of its choices."""
    for name, choices in literal_fields(type(value)).items():
        if getattr(value, name) not in choices:
            raise UnknownName(name, str(getattr(value, name)), map(str, choices))


def check_count(name: str, value: object) -> None:
    """Raise :class:`ConfigError` unless the value is a whole number of tokens, zero or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(
            f"remove {name}={value!r} tokens",
            given=f"{value!r} ({type(value).__name__})",
            why="a number of tokens is a whole number, zero or more",
            fix=f"use {name}=0 to leave the model unreduced",
        )


def check_features(method: str, needed: frozenset[str], stack: Stack) -> None:
    """Raise :class:`ConfigError` where a method needs features that a network's blocks do not have."""
    if missing := sorted(needed - stack.features):
        raise ConfigError(
            f"reduce a network by {method!r}",
            given=f"a network whose blocks hand on {', '.join(sorted(stack.features))}",
            why=f"the method reads {' and '.join(missing)}, which this network does not compute",
            fix="use another method, or another features= option",
        )
