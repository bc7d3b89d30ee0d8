"""Checks shared by the reduction values: every ``Literal`` field must hold one of its choices."""

from __future__ import annotations

from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rmeeto.checks import number, whole_number
from rmeeto.errors import ConfigError, UnknownName
from rmeeto.reduction.protocol import Stack

MOST = 2**62  # of a whole number: tensors count in 64 bits


def check_types(value: Any) -> None:
    """Bring the numbers of a reduction to the types of their fields.

    Raises:
        ConfigError: a field of another type than it is annotated with.
    """
    hints = get_type_hints(type(value))
    for field in fields(value):
        given, hint = getattr(value, field.name), hints[field.name]
        kinds = get_args(hint) if get_origin(hint) is UnionType else (hint,)
        if (given is None and NoneType in kinds) or any(get_origin(kind) is Literal for kind in kinds):
            continue
        object.__setattr__(value, field.name, _as_one_of(field.name, given, kinds))


def _as_one_of(name: str, given: object, kinds: tuple[Any, ...]) -> object:
    asked = f"reduce with {name}"
    if any(get_origin(kind) is tuple for kind in kinds) and isinstance(given, list | tuple):
        return tuple(whole_number(asked, name, count, least=-MOST, most=MOST) for count in given)
    if float in kinds:
        # the method itself refuses NaN and infinity, because it knows its field's range
        return given if isinstance(given, float) else number(asked, name, given)
    if int in kinds:
        return whole_number(asked, name, given, least=-MOST, most=MOST)
    if type(given) not in kinds:
        words = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
        raise ConfigError(
            asked, given=f"{str(given)[:80]!r} ({type(given).__name__})", why=f"{name} is of type {words}"
        )
    return given


def check_choices(value: Any) -> None:
    """Raise :class:`UnknownName` for a ``Literal`` field that holds none of its choices."""
    for name, hint in get_type_hints(type(value)).items():
        if get_origin(hint) is Literal and getattr(value, name) not in get_args(hint):
            raise UnknownName(name, str(getattr(value, name)), map(str, get_args(hint)))


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
    """Raise :class:`ConfigError` if a method needs features that a network's blocks do not compute."""
    if missing := sorted(needed - stack.features):
        raise ConfigError(
            f"reduce a network by {method!r}",
            given=f"a network whose blocks compute {', '.join(sorted(stack.features))}",
            why=f"the method reads {' and '.join(missing)}, which this network does not compute",
            fix="use another method, or another features= option",
        )
