"""What a counter asks of a network."""

from __future__ import annotations

from typing import Literal, Protocol

from rmeeto.reduction.protocol import Stack, Widths

Convention = Literal["paper", "exact"]
Terms = dict[str, float]


class Network(Protocol):
    """Operations per image of a network's parts, by name.

    stack: what schedules know of it. widths: numbers per token that reductions compare and move.
    """

    @property
    def stack(self) -> Stack: ...  # noqa: D102
    @property
    def widths(self) -> Widths: ...  # noqa: D102

    def block(self, before: int, after: int, convention: Convention) -> Terms:
        """One block whose reduction turns ``before`` tokens into ``after``; the reduction itself is not counted."""
        ...

    def outside(self, last: int, convention: Convention) -> Terms:
        """Everything outside of the blocks; ``last`` tokens leave the last block."""
        ...
