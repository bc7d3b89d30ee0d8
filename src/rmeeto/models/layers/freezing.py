"""Modules that can be frozen: they keep something made from their weights, and lose it when the weights may change."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

from rmeeto.models.layers.linear import thaw_layer

Model = TypeVar("Model", bound=nn.Module)


class Freezable(nn.Module):
    """A module that may compute by what `rmeeto.freeze` makes from its weights, until :func:`thaw`.

    Training, loading, moving and converting thaw a module with all its parts. Copies and files start thawed.

    executor: called by ``forward`` with the module and what it was given; computes in its place, or returns None if it
        cannot. It must notice by itself when weights, parts or settings have changed. None while thawed.
    """

    executor: Any = None

    def thaw(self) -> None:
        """Compute from the weights at every call again."""
        self.executor = None

    def train(self, mode: bool = True) -> Freezable:
        """Set the mode; training mode thaws the module."""
        if mode:
            thaw(self)
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Freezable:
        thaw(self)
        return super()._apply(*args, **kwargs)  # type: ignore[no-any-return,no-untyped-call]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        thaw(self)
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Without what was made from the weights, some of which no copy or file can hold."""
        return {**self.__dict__, "executor": None}


def thaw(model: Model) -> Model:
    """Undo what :func:`freeze` did to the weights; the mode stays."""
    for module in model.modules():
        if isinstance(module, Freezable):
            module.thaw()
        thaw_layer(module)
    return model
