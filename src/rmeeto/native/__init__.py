"""Models without PyTorch: a file with the weights of a frozen model, and the C library that runs it.

Writing a file needs PyTorch. Reading and running it need neither PyTorch nor other parts of this package, and importing
this module loads none of them. The library has a C interface for other languages: ``ops/csrc/native/rmeeto.h``.

>>> rmeeto.native.save(model, "vim.rmeeto")
>>> with rmeeto.native.load("vim.rmeeto") as native:
...     logits = native(native.prepare(Image.open("cat.jpg"))[None])
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmeeto.native.binding import Model, NativeError, load

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Model", "NativeError", "load", "save", "why_not_save"]


def save(model: nn.Module, path: str | Path, **options: Any) -> Path:
    """Write a model to a file; see :func:`rmeeto.native.saving.save`."""
    from rmeeto.native import saving  # which imports PyTorch

    return saving.save(model, path, **options)


def why_not_save(model: nn.Module) -> list[str]:
    """What stops a model from being saved; see :func:`rmeeto.native.conditions.why_not_save`."""
    from rmeeto.native import conditions

    return [*dict.fromkeys(conditions.why_not_save(model))]
