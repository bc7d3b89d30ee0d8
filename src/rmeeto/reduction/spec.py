"""The one-line form of a reduction: ``merge:r=11,features=C`` parses and prints both ways.

``@FILE`` stands for the line in a JSON file: a tuned schedule, or a saved model's ``config.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from itertools import groupby
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from rmeeto.errors import ConfigError, UnknownName
from rmeeto.files.paths import given_path, read_text

MOST_BLOCKS = 10_000  # that a network has, so counts in a list
LONGEST_LINE = 100_000  # characters


class OneLine:
    """A dataclass that prints as its line: ``merge:r=11``, and as ``TokenMerge('merge:r=11')`` among other values."""

    def __str__(self) -> str:
        return format_reduction(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


def format_reduction(value: Any) -> str:
    """``name:field=value,…`` with the fields that differ from their defaults."""
    changed = [
        f"{field.name}={_format(getattr(value, field.name))}"
        for field in fields(value)
        if field.default is MISSING or getattr(value, field.name) != field.default
    ]
    return f"{value.name}:{','.join(changed)}"


def _format(value: object) -> str:
    """Lists of counts are run-length encoded like a Python sum of lists: ``5*10+71``."""
    if isinstance(value, tuple):
        runs = [(count, len(list(run))) for count, run in groupby(value)]
        return "+".join(f"{count}*{times}" if times > 1 or len(runs) == 1 else str(count) for count, times in runs)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def parse_spec(text: str, methods: Mapping[str, type]) -> Any:
    """Build a reduction from its one-line form, or from ``@FILE``.

    Raises:
        UnknownName: no such method or option, with the nearest that exist.
        ConfigError: an option without a value, a value of the wrong kind, or a file without such a line.
    """
    if text.strip().startswith("@"):
        text = read_line(text.strip()[1:])
    if len(text) > LONGEST_LINE:
        raise ConfigError("read a reduction", given=f"{text[:40]!r} …", why=f"it has {len(text):,} characters")
    name, _, rest = text.strip().partition(":")
    if name not in methods:
        raise UnknownName("reduction method", name, methods)
    method = methods[name]
    hints = get_type_hints(method)
    known = [field.name for field in fields(method)]
    options: dict[str, object] = {}
    for part in filter(None, rest.split(",")):
        option, equals, value = (piece.strip() for piece in part.partition("="))
        if option not in known:
            raise UnknownName(f"option of {name!r}", option, known)
        if not equals or option in options:
            raise ConfigError(
                f"read the reduction {text!r}",
                given=part,
                why="every option is named once, with a value",
                fix=f"write {name}:{option}=VALUE",
            )
        options[option] = _read(option, value, hints[option])
    for field in fields(method):
        if field.default is MISSING and field.default_factory is MISSING and field.name not in options:
            raise ConfigError(
                f"read the reduction {text!r}", why=f"it needs {field.name}", fix=f"write {name}:{field.name}=VALUE"
            )
    return method(**options)


def read_line(path: str) -> str:
    """The one-line form that a JSON file keeps under ``reduction``."""
    asked = f"read a reduction from {path}"
    try:
        content = json.loads(read_text(given_path(path, asked, ConfigError)))
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(asked, why=why, fix="rmeeto tune --output FILE writes one") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(asked, why=f"it is not JSON ({error})", fix="write the line itself") from error
    line = content.get("reduction") if isinstance(content, dict) else None
    if not isinstance(line, str):
        raise ConfigError(asked, why="it has no line under the key 'reduction'", fix="write the line itself")
    return line


def _read(option: str, value: str, hint: Any) -> object:
    """One option's text as the type its field is annotated with."""
    accepted = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    readers = {bool: _read_bool, tuple: _read_counts, int: int, float: float}
    for kind in accepted:
        if kind is NoneType and value.lower() == "none":
            return None
        reader = readers.get(get_origin(kind) or kind)
        if reader is None and kind is not NoneType:
            return value  # a string or a Literal, whose choices the class checks
        try:
            if reader is not None:
                return reader(value)  # type: ignore[operator]
        except ValueError:
            continue
    raise ConfigError(
        f"read {option}={value[:80]}",
        why=f"{option} takes {' or '.join(getattr(kind, '__name__', str(kind)) for kind in accepted)}",
        fix=f"counts are a number (11) or a list (5*10+71) of at most {MOST_BLOCKS:,}" if option == "r" else None,
    )


def _read_bool(value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ValueError(value)
    return value.lower() == "true"


def _read_counts(value: str) -> tuple[int, ...]:
    counts: list[int] = []
    for term in value.split("+"):
        count, times, repeat = term.partition("*")
        number = int(repeat) if times else 1
        if number < 1 or len(counts) + number > MOST_BLOCKS:
            raise ValueError(value)
        counts += [int(count)] * number
    return tuple(counts)
