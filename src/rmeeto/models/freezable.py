"""Modules that can be frozen: they keep something made from their weights, and lose it when the weights may change."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from torch import nn

from rmeeto.models.linear import thaw_layer

Model = TypeVar("Model", bound=nn.Module)
Prepared = TypeVar("Prepared")


class Freezable(nn.Module, Generic[Prepared]):
    """A module that may compute by what `rmeeto.freeze` makes from its weights, until :func:`thaw`.

    Training, loading, moving and converting thaw a module with all its parts. Copies and files start thawed.

    executor: computes in the place of ``forward``, or returns None if it cannot; None while thawed. It must notice by
        itself when weights, parts or settings have changed since it was installed.
    prepared: by name or kind, filled in at first use; None while thawed. The same holds for what is put there.
    """

    executor: Any = None
    prepared: dict[Any, Prepared] | None = None

    def freeze(self) -> None:
        """Prepare from the weights as they are now, until :meth:`thaw`."""
        self.prepared = {}

    def thaw(self) -> None:
        """Compute from the weights at every call again."""
        self.executor = self.prepared = None

    def train(self, mode: bool = True) -> Freezable[Prepared]:
        """As ever; training thaws."""
        if mode:
            thaw(self)
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Freezable[Prepared]:
        thaw(self)
        return super()._apply(*args, **kwargs)  # type: ignore[no-any-return,no-untyped-call]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        thaw(self)
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Without what was made from the weights, some of which no copy or file can hold."""
        return {**self.__dict__, "executor": None, "prepared": None}


def thaw(model: Model) -> Model:
    """Undo what :func:`freeze` did to the weights; the mode stays."""
    for module in model.modules():
        if isinstance(module, Freezable):
            module.thaw()
        thaw_layer(module)
    return model
