"""Elapsed time: how step sizes change after tokens have been removed.

A Mamba's scan takes a step Δ at each token: the state decays by exp(ΔA) and ΔB times the token is added. After a
reduction the state no longer decays at the removed tokens. An elapsed time adds that decay to the remaining tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from torch import Tensor

if TYPE_CHECKING:
    from rmeeto.reduction.plan import Plan

Missing = Literal["mean", "neighbour", "last"]
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens that stand for several: Δ' = Δ·factor, so that they decay the state and enter it that much more.

    factor: ``(b, l)``, at least float32.
    """

    factor: Tensor

    def steps(self, delta: Tensor, u: Tensor, *, reverse: bool) -> Pair:
        """Longer step sizes (after softplus), and the same inputs, of a scan: both ``(b, l, e)``."""
        return delta * self.factor[..., None], u

    def moved(self, plan: Plan) -> Self:
        """The survivors' factors."""
        return type(self)(plan.take(self.factor))


@dataclass(frozen=True, slots=True)
class Gaps:
    """Places without a token: the state decays over them and takes nothing in (hidden state alignment).

    A step over a gap, then the token's own: Δ' = Δ + Σ Δ of the gap decays the state by both, and u' = u·Δ/Δ' takes in
    what the token alone would have. The scan of the short sequence then equals that of the full one with the missing
    inputs set to zero.

    gap: ``(forward, backward)``, what lies between each token and the one that its scan meets before it: the number of
    missing places ``(b, l, 1)``, or, for ``last``, the sum of their step sizes ``(b, l, e)``.
    missing: which Δ a missing place has in a later block, where it has no features: the ``mean`` of the block's
    tokens; that of its ``neighbour``, the next token of the scan; or the ``last`` one that was computed there.
    """

    gap: Pair
    missing: Missing

    @classmethod
    def left_by(cls, plan: Plan, own: Pair, missing: Missing) -> Self:
        """The gaps left by the tokens that a plan removes: ``own`` places ``(b, l, 1)`` or steps ``(b, l, e)``.

        The plan must keep the order.
        """
        forward, backward = own
        return cls((plan.carry(forward), plan.carry(backward, reverse=True)), missing)

    def steps(self, delta: Tensor, u: Tensor, *, reverse: bool) -> Pair:
        """Longer step sizes over the gaps, and inputs scaled so that they add the same to the state: ``(b, l, e)``."""
        gap = self.gap[reverse]
        if self.missing != "last":
            gap = gap * (delta.mean(dim=1, keepdim=True) if self.missing == "mean" else delta)
        longer = delta + gap
        return longer, u * (delta / longer)

    def moved(self, plan: Plan) -> Self:
        """Add the gaps of removed tokens to the next survivor's; the plan must keep the order."""
        forward, backward = (plan.take(gap) for gap in self.gap)
        return type(self)((forward, backward), self.missing).joined(self.left_by(plan, self.gap, self.missing))

    def joined(self, other: Gaps) -> Self:
        """The sum of two gaps."""
        forward, backward = (a + b for a, b in zip(self.gap, other.gap, strict=True))
        return type(self)((forward, backward), self.missing)


ElapsedTime = Stretch | Gaps
"""How a mixer changes the step sizes of the remaining tokens, and how that moves with them."""
