"""What methods that keep the most important tokens share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rmeeto.errors import ConfigError
from rmeeto.reduction.methods.partners import averaging
from rmeeto.reduction.methods.scheduled import ScheduledReduction
from rmeeto.reduction.protocol import Widths
from rmeeto.reduction.scores import activity
from rmeeto.reduction.tokens import AttentionFeatures, Features, Tokens


@dataclass(frozen=True, kw_only=True, repr=False)
class ImportanceReduction(ScheduledReduction):
    """Importance is Σ max(0, v) over the channels of a token.

    features: y, the scan's gated output in the block before; or X, the block's output, the only one of the two that a
        Transformer has.
    direction: of the scan whose y counts; ``both`` is their sum.
    """

    features: Literal["y", "X"] = "y"
    direction: Literal["both", "forward", "backward"] = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features == "X" and self.direction != "both":
            raise ConfigError(f"score X by the {self.direction} scan", why="X has no directions, only y has")

    @property
    def needs(self) -> frozenset[str]:
        """What the importance is read from."""
        return frozenset({self.features})

    def importance(self, tokens: Tokens, features: Features | AttentionFeatures | None) -> Tensor:
        """``(b, l)``, larger matters more."""
        if self.features == "X":
            return activity(tokens.x)
        assert isinstance(features, Features), "schedule() refuses networks without y"
        if self.direction == "both":
            return activity(features.mean("y"))
        return activity(features.pair("y")[self.direction == "backward"])

    def importance_operations(self, widths: Widths, patches: int) -> float:
        """Exact operations of :meth:`importance`."""
        combine = averaging(widths, self.features, patches) if self.direction == "both" else 0
        return combine + 2 * patches * widths.features[self.features]  # maximum, sum
