"""What a model asks of a reduction method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from rmeeto.reduction.schedule import Schedule, Stack, Step
from rmeeto.tokens import Features, Tokens


@dataclass(frozen=True)
class Widths:
    """Numbers per token in a network.

    features: of each feature that tokens can be compared by. directional: those that both scan directions have, one
    set each. moved: that a reduction gathers for every token, hidden state and residual together.
    """

    features: Mapping[str, int]
    directional: tuple[str, ...]
    moved: int


class Reduction(Protocol):
    """A frozen value that decides how many tokens go (``schedule``) and which (``step``).

    ``schedule`` raises :class:`ConfigError` for a network that cannot be reduced this way.
    varies: whether images lose different numbers of tokens, of which the schedule says the most.
    """

    name: ClassVar[str]
    varies: ClassVar[bool]

    @property
    def needs(self) -> frozenset[str]:
        """The features of tokens that ``step`` reads, by name."""
        ...

    def schedule(self, stack: Stack) -> Schedule:
        """Tokens to remove at each block of a network."""
        ...

    def step(self, tokens: Tokens, features: Features | None, step: Step) -> Tokens:
        """Remove ``step.r`` (at least one) tokens from each image at a block's turn; up to so many if it varies."""
        ...

    def operations(self, widths: Widths, patches: int, step: Step) -> float:
        """Exact floating-point operations per image of a step, with so many patches before it."""
        ...

    def timing_operations(self, widths: Widths, tokens: int) -> float:
        """Exact operations that a block of so many tokens spends on their timing, once any have been removed."""
        ...
