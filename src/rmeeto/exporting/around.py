"""A reduction with something around its steps."""

from __future__ import annotations

from typing import Any

from rmeeto.reduction import Reduction, Schedule
from rmeeto.reduction.protocol import Stack


class Around:
    """What stands in for a reduction while a model is traced. Subclasses have ``step``; all else is the reduction's."""

    varies = False  # what varies draws or chooses its own numbers of tokens, and is not exported

    def __init__(self, reduction: Reduction) -> None:
        self.reduction, self.name = reduction, reduction.name

    @property
    def needs(self) -> frozenset[str]:
        """The features that the reduction reads."""
        return self.reduction.needs

    def schedule(self, stack: Stack) -> Schedule:
        """The reduction's."""
        return self.reduction.schedule(stack)

    def operations(self, *given: Any) -> float:
        """The reduction's."""
        return self.reduction.operations(*given)

    def timing_operations(self, *given: Any) -> float:
        """The reduction's."""
        return self.reduction.timing_operations(*given)
