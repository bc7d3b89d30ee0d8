"""What every model that reduces its tokens has in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rmeeto.cost import stack_of
from rmeeto.reduction import Reduction, Schedule, as_reduction


class Reducible:
    """A model whose reduction can be assigned at any time.

    ``schedule`` says how many tokens every block sees under the present one.
    """

    config: Any
    schedule: Schedule
    _reduction: Reduction | None
    _needs: frozenset[str]
    _class_names: tuple[str, ...] | None = None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What its classes are called, by label; None where that is unknown, as with another number of classes.

        Saved with the model and loaded with it; :func:`rmeeto.retrain` takes them from the data.
        """
        names = self._class_names
        return names if names is not None and len(names) == getattr(self, "num_classes", None) else None

    @class_names.setter
    def class_names(self, names: Sequence[str] | None) -> None:
        self._class_names = None if names is None else tuple(names)

    def extra_repr(self) -> str:
        """The reduction and what it leaves, as the first line of the model's ``repr``."""
        tokens = self.schedule.tokens
        return f"reduction={self._reduction or 'none'}, tokens={self.schedule.start} … {tokens[-1]}"

    @property
    def reduction(self) -> Reduction | None:
        """How tokens are reduced; None leaves the model whole. A line such as ``"merge:r=11"`` may be assigned too."""
        return self._reduction

    @reduction.setter
    def reduction(self, reduction: Reduction | str | None) -> None:
        reduction = as_reduction(reduction)
        stack = stack_of(self.config)
        self.schedule = stack.whole() if reduction is None else reduction.schedule(stack)
        self._reduction = reduction
        self._needs = frozenset() if reduction is None else reduction.needs
