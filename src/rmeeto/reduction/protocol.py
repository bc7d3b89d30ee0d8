"""What a model asks of a reduction method."""

from __future__ import annotations

from typing import ClassVar, Protocol

from rmeeto.reduction.schedule import Schedule
from rmeeto.tokens import Features, Tokens


class Reduction(Protocol):
    """A frozen value that decides how many tokens go (``schedule``) and which (``step``)."""

    name: ClassVar[str]

    def schedule(self, depth: int, tokens: int) -> Schedule:
        """Tokens to remove at each block."""
        ...

    def step(self, tokens: Tokens, features: Features | None, r: int) -> Tokens:
        """Remove r tokens from each image at the entry of a block."""
        ...
