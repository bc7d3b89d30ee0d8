"""What every model that reduces its tokens has in common."""

from __future__ import annotations

from typing import Any

from rmeeto.cost import stack_of
from rmeeto.reduction import Reduction, Schedule


class Reducible:
    """A model whose reduction can be assigned at any time.

    ``schedule`` says how many tokens every block sees under the present one.
    """

    config: Any
    schedule: Schedule
    _reduction: Reduction | None
    _needs: frozenset[str]

    @property
    def reduction(self) -> Reduction | None:
        """How tokens are reduced; None leaves the model whole."""
        return self._reduction

    @reduction.setter
    def reduction(self, reduction: Reduction | None) -> None:
        stack = stack_of(self.config)
        self.schedule = stack.whole() if reduction is None else reduction.schedule(stack)
        self._reduction = reduction
        self._needs = frozenset() if reduction is None else reduction.needs
