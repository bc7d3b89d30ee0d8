"""JSON text that can be written in UTF-8 even if it contains file names that are not UTF-8."""

from __future__ import annotations

import json
from typing import Any


def to_json(value: Any, *, indent: int | None = None) -> str:
    r"""JSON with letters of all languages as they are; bytes in file names that are not UTF-8 are escaped.

    ``json.loads`` gives back equal values, names of files with bytes that are not UTF-8 included.

    >>> to_json(["é", "\udcff"])
    '["é", "\\udcff"]'
    """
    # the escape that this error handler writes is JSON's own
    return json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")
