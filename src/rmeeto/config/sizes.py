"""Sizes: what the package reads of any network's config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar, Protocol, TypeVar

from rmeeto.errors import UnknownOption


class Sizes(Protocol):
    """A frozen dataclass of plain values, from which a network can be built and counted without its weights.

    family: name of the network's family, a key of :data:`rmeeto.models.family.FAMILIES`.
    input_size: shape of one input, ``(c, h, w)`` of an image or ``(c, t, h, w)`` of a clip.
    grid: patches per column and row. protected: places of the tokens that are no patches and are never reduced.
    tokens: that enter the first block. depth: blocks. num_classes: width of the logits.
    """

    family: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def input_size(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def grid(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def protected(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def tokens(self) -> int: ...  # noqa: D102
    @property
    def depth(self) -> int: ...  # noqa: D102
    @property
    def num_classes(self) -> int: ...  # noqa: D102


Own = TypeVar("Own", bound=Sizes)


def changed(config: Own, changes: Mapping[str, Any]) -> Own:
    """A copy with the changes that are not None.

    Raises:
        UnknownOption: a field that does not exist, with the nearest that do.
    """
    check_fields(type(config), changes)
    return replace(config, **{name: value for name, value in changes.items() if value is not None})


def check_fields(config: type[Sizes], names: Iterable[str]) -> None:
    """Raise :class:`UnknownOption` for a name that is no field of these sizes."""
    known = [field.name for field in fields(config)]
    for name in names:
        if name not in known:
            raise UnknownOption("model option", name, known)
