"""MODEL on the command line: built, with the weights that ``--weights`` asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rmeeto.cli import console
from rmeeto.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rmeeto.data.media import Kind
    from rmeeto.models.description import Description
    from rmeeto.models.reducible import ReducibleModel
    from rmeeto.ops.select import Impl
    from rmeeto.reduction import Reduction

RANDOM = "random"


def build(model: str, weights: str | None, *, impl: Impl, reduction: Reduction | None = None) -> ReducibleModel:
    """Build MODEL with the weights that ``--weights`` asks for: by default its published or saved ones.

    Raises:
        ConfigError: random weights for a saved model; and the errors of :func:`rmeeto.create_model`.
    """
    from rmeeto import create_model
    from rmeeto.models.description import describe

    if weights == RANDOM:
        check_may_be_random(model)
        return create_model(model, reduction=reduction, impl=impl)
    if weights is None and str(published := describe(model).pretrained).startswith("hf-hub:"):
        console.note(f"weights: {published}")  # a first download takes a while
    return create_model(model, pretrained=True, weights=weights, reduction=reduction, impl=impl)


def fitting_reductions(described: Description, lines: Iterable[str]) -> list[Reduction | None]:
    """The reductions that the lines describe, without duplicates, after checking that the model can have them.

    Raises:
        ConfigError, UnknownName: a line that describes no reduction, or a reduction that this model is too small for.
    """
    from rmeeto.cost import stack_of
    from rmeeto.reduction import parse_reduction

    reductions = list(dict.fromkeys(map(parse_reduction, lines)))
    for reduction in reductions:
        if reduction is not None:
            reduction.schedule(stack_of(described.config))
    return reductions


def kind_of_files(model: str) -> Kind:
    """``images`` or ``clips``, what the model takes, without building it."""
    from rmeeto.data import CLIPS, IMAGES
    from rmeeto.models.description import describe

    return CLIPS if len(describe(model).config.input_size) == 4 else IMAGES  # (c, t, h, w)


def check_may_be_random(model: str) -> None:
    """Raise :class:`ConfigError` for a saved model, which always comes with its weights."""
    from rmeeto.models.description import is_folder

    if is_folder(model):
        raise ConfigError(
            f"use {model} with random weights",
            why="a saved model comes with its weights",
            fix="leave --weights out, or name a model of the zoo",
        )
