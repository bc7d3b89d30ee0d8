"""Tokens: the one value that flows through a model, and the features a reduction may compare them by."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from rmeeto.reduction.elapsed import ElapsedTime, Pair

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

    from rmeeto.reduction.plan import Plan


@dataclass(frozen=True, slots=True)
class Features:
    """What a Mamba mixer computed about its tokens, per direction and in time order (paper, Table 6).

    B, C: ``(forward, backward)``, each ``(b, l, n)``, what a token writes to and reads from the state.
    delta: ``(forward, backward)``, each ``(b, l, e)``, the token's part of Δ, before bias and softplus.
    y: ``(forward, backward)``, each ``(b, l, e)``, the scan's gated output. delta and y are None unless the reduction
        needs them.
    delta_bias: ``(forward, backward)``, each ``(e,)``.
    """

    B: tuple[Float[Tensor, "b l n"], Float[Tensor, "b l n"]]
    C: tuple[Float[Tensor, "b l n"], Float[Tensor, "b l n"]]
    delta: tuple[Float[Tensor, "b l e"], Float[Tensor, "b l e"]] | None
    y: tuple[Float[Tensor, "b l e"], Float[Tensor, "b l e"]] | None
    delta_bias: tuple[Float[Tensor, " e"], Float[Tensor, " e"]]

    def pair(self, name: str) -> Pair:
        """``(forward, backward)`` of the feature called B, C, delta or y."""
        pair = {"B": self.B, "C": self.C, "delta": self.delta, "y": self.y}[name]
        assert pair is not None, f"the mixer was not told that {name} is needed"
        return pair

    def mean(self, name: str) -> Tensor:
        """``(b, l, f)``: the feature called B, C, delta or y, averaged over both directions."""
        forward, backward = self.pair(name)
        return (forward + backward) / 2

    def step_sizes(self) -> Pair:
        """``(forward, backward)`` Δ as the scan used them before any timing, each ``(b, l, e)`` in float32 at least."""
        forward, backward = (step_sizes(*pair) for pair in zip(self.pair("delta"), self.delta_bias, strict=True))
        return forward, backward


def step_sizes(delta: Tensor, bias: Tensor) -> Tensor:
    """Softplus of ``(b, l, e)`` Δ with its bias, in float32 at least."""
    exact = torch.promote_types(delta.dtype, torch.float32)
    return F.softplus(delta.to(exact) + bias.to(exact))


@dataclass(frozen=True, slots=True)
class AttentionFeatures:
    """What an attention computed about its tokens (paper, section 3.4): each ``(b, heads, l, f)``.

    Q, K, V: queries and keys as they are compared (normalised where the network does that), and values.
    """

    Q: Float[Tensor, "b heads l f"]
    K: Float[Tensor, "b heads l f"]
    V: Float[Tensor, "b heads l f"]

    def mean(self, name: str) -> Tensor:
        """``(b, l, f)``: the feature called Q, K or V, averaged over the heads."""
        return {"Q": self.Q, "K": self.K, "V": self.V}[name].mean(1)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What enters and leaves a block: ``l`` tokens per image and where they came from.

    If images have lost different numbers of tokens, all have as many slots as the longest has tokens; the slots after
    the last token of an image are empty. No result depends on the values in an empty slot.

    x: ``(b, l, d)``, the previous block's output before it joins the residual stream.
    residual: ``(b, l, d)`` in float32, or None before the first block.
    protected: ``(b, p)`` int64, the positions of the tokens that no reduction touches, the class token's first.
    size: ``(b, l)``, at least float32, how many original tokens each one stands for; None while every size is 1.
    timing: how the mixers change step sizes after removals; None to leave them unchanged.
    lengths: ``(b,)`` int64, how many tokens each image has, in its first slots; None while all slots are taken. If
        some are empty, ``size`` is given and 0 there.
    plans: the reductions so far, oldest first. :meth:`group` composes them on demand, so a forward pass without that
        call does not pay for its source map.
    """

    x: Float[Tensor, "b l d"]
    residual: Float[Tensor, "b l d"] | None
    protected: Int64[Tensor, "b p"]
    size: Float[Tensor, "b l"] | None = None
    timing: ElapsedTime | None = None
    lengths: Int64[Tensor, " b"] | None = None
    plans: tuple[Plan, ...] = ()

    @property
    def cls_index(self) -> Tensor:
        """``(b,)`` int64, the class token's position in each image."""
        return self.protected[:, 0]

    @property
    def length(self) -> int:
        """Tokens per image now, class token included; of the image that has most, where they differ."""
        return self.x.shape[1]

    @property
    def length_at_first(self) -> int:
        """Tokens per image before any reduction."""
        return self.plans[0].length if self.plans else self.length

    @property
    def token_mask(self) -> Tensor | None:
        """``(b, l)`` bool, which slots hold a token; None while all do."""
        if self.lengths is None:
            return None
        return torch.arange(self.length, device=self.x.device) < self.lengths[:, None]

    def counts(self) -> Tensor:
        """``(b,)`` int64, how many tokens each image has."""
        if self.lengths is not None:
            return self.lengths
        return torch.full(self.x.shape[:1], self.length, device=self.x.device)

    def replace(self, **changes: object) -> Tokens:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def sizes(self) -> Tensor:
        """``(b, l)`` sizes in at least float32, ones where nothing has been merged yet."""
        if self.size is not None:
            return self.size
        return torch.ones(
            self.x.shape[:2], device=self.x.device, dtype=torch.promote_types(self.x.dtype, torch.float32)
        )

    def group(self) -> Tensor:
        """The source map, ``(b, l0)`` int64: the present token that holds each original one, -1 if dropped."""
        group = torch.arange(self.length_at_first, device=self.x.device).expand(self.x.shape[0], -1)
        for plan in self.plans:
            group = plan.follow(group)
        return group

    def origins(self) -> Tensor:
        """``(b, l)`` int64, the original position of each present token; of a merged one, the survivor's."""
        origin = torch.arange(self.length, device=self.x.device).expand(self.x.shape[0], -1)
        for plan in reversed(self.plans):
            origin = plan.kept.gather(1, origin)
        return origin

    def unmerge(self, values: Tensor) -> Tensor:
        """Bring ``(b, l, …)`` values of the present tokens back to the ``l0`` original positions.

        A merged token's value is copied to every position that it absorbed; dropped positions get zero. Empty slots are
        ignored.
        """
        for plan in reversed(self.plans):
            values = plan.unmerge(values)
        return values


def _former(name: str, now: str) -> property:
    """A name that goes on working for one version."""

    def value(tokens: Tokens) -> object:
        warnings.warn(f"Tokens.{name} is called Tokens.{now}", DeprecationWarning, stacklevel=2)
        return getattr(tokens, now)

    return property(value)


for _name, _now in (("present", "lengths"), ("there", "token_mask"), ("places", "origins")):
    setattr(Tokens, _name, _former(_name, _now))
