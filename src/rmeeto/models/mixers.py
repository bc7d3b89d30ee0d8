"""The bidirectional Mamba mixer: the only place that calls the scan and the convolution."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmeeto.config import ModelConfig
from rmeeto.models.linear import Linear
from rmeeto.ops import causal_conv, selective_scan
from rmeeto.ops.select import Impl
from rmeeto.timing import Timing
from rmeeto.tokens import Features, step_sizes


class Direction(NamedTuple):
    """One direction's parameters; the official names give the backward ones a ``_b``."""

    A_log: nn.Parameter
    skip: nn.Parameter
    conv: nn.Conv1d
    x_proj: Linear
    dt_proj: Linear
    reverse: bool

    def decay_rates(self) -> Tensor:
        """A, ``(e, n)`` in float32 at least."""
        return -torch.exp(self.A_log.float() if self.A_log.dtype != torch.float64 else self.A_log)


class Computed(NamedTuple):
    """What one direction makes of the tokens: Δ before bias and softplus, B, C, and its gated output."""

    delta: Tensor
    B: Tensor
    C: Tensor
    y: Tensor


class BidirectionalMixer(nn.Module):
    """Two selective scans over the tokens, one from each end, that share their projections in and out.

    Maps ``(b, l, d)`` to ``(b, l, d)`` and hands out the features of both directions in time order. Parameter
    names are the official ones (Vim's bidirectional Mamba, version 2).
    """

    def __init__(self, config: ModelConfig, impl: Impl = "auto") -> None:
        super().__init__()
        e, n, rank = config.inner, config.state, config.rank
        self.rank, self.state = rank, n
        self.impl: Impl = impl
        self.scale = 0.5 if config.halve else 1.0
        self.A_log = nn.Parameter(torch.empty(e, n))
        self.D = nn.Parameter(torch.empty(e))
        self.A_b_log = nn.Parameter(torch.empty(e, n))
        self.D_b = nn.Parameter(torch.empty(e))
        self.in_proj = Linear(config.dim, 2 * e, bias=False)
        self.conv1d = nn.Conv1d(e, e, config.conv_width, groups=e)
        self.x_proj = Linear(e, rank + 2 * n, bias=False)
        self.dt_proj = Linear(rank, e)
        self.conv1d_b = nn.Conv1d(e, e, config.conv_width, groups=e)
        self.x_proj_b = Linear(e, rank + 2 * n, bias=False)
        self.dt_proj_b = Linear(rank, e)
        self.out_proj = Linear(e, config.dim, bias=False)
        self.reset_parameters(config.depth)

    def directions(self) -> tuple[Direction, Direction]:
        """Forward and backward parameters."""
        return (
            Direction(self.A_log, self.D, self.conv1d, self.x_proj, self.dt_proj, reverse=False),
            Direction(self.A_b_log, self.D_b, self.conv1d_b, self.x_proj_b, self.dt_proj_b, reverse=True),
        )

    @torch.no_grad()
    def reset_parameters(self, depth: int) -> None:
        """Mamba's initialisation: A = -(1 … n), Δ between 1e-3 and 1e-1, output scaled by 1/√depth."""
        for side in self.directions():
            side.A_log.copy_(torch.arange(1, self.state + 1).log().expand_as(side.A_log))
            side.skip.fill_(1.0)
            side.dt_proj.weight.uniform_(-(self.rank**-0.5), self.rank**-0.5)
            delta = torch.empty_like(side.dt_proj.bias).uniform_(math.log(1e-3), math.log(1e-1)).exp()
            side.dt_proj.bias.copy_(delta + torch.log(-torch.expm1(-delta)))  # softplus of it gives delta back
        self.out_proj.weight.div_(math.sqrt(depth))

    def forward(self, x: Tensor, timing: Timing | None = None, there: Tensor | None = None) -> tuple[Tensor, Features]:
        """Mix ``(b, l, d)`` tokens; also return what both directions computed about them, in time order.

        timing: of tokens among which others are missing, or None. there: ``(b, l)``, 0 for empty slots, of which all
            stand behind an image's last token; None where there are none.
        """
        u, gate = self.project(x)
        first, second = (self.direction(u, gate, side, timing=timing, there=there) for side in self.directions())
        delta, B, C, outputs = zip(first, second, strict=True)
        bias = (self.dt_proj.bias, self.dt_proj_b.bias)
        return self.combine(first.y + second.y), Features(B=B, C=C, delta=delta, y=outputs, delta_bias=bias)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(b, l, d)`` tokens to what the scans walk over and to what gates their output, each ``(b, l, e)``."""
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        return u, gate

    def combine(self, y: Tensor) -> Tensor:
        """The sum of both directions, ``(b, l, e)``, back to ``(b, l, d)``."""
        return self.out_proj(y if self.scale == 1.0 else y * self.scale)  # type: ignore[no-any-return]

    def direction(
        self, u: Tensor, gate: Tensor, side: Direction, *, timing: Timing | None = None, there: Tensor | None = None
    ) -> Computed:
        """Convolve, project to Δ, B and C, scan. Nothing is flipped: the ops walk from either end.

        timing: of tokens among which others are missing, or None. there: ``(b, l)``, 1 for tokens that count and 0
            for those that neither convolution nor state may take in; None where all do.
        """
        if there is not None:
            there = there[..., None].to(u.dtype)
            u = u * there
        u = causal_conv(u, side.conv.weight, side.conv.bias, silu=True, reverse=side.reverse, impl=self.impl)
        if there is not None:
            u = u * there  # the convolution has put its bias and its neighbours there
        dt, B, C = side.x_proj(u).split([self.rank, self.state, self.state], dim=-1)
        delta = side.dt_proj.product(dt)
        if timing is None:
            y = self._scan(u, delta, B, C, gate, side)
        else:
            y = self._timed_scan(u, delta, B, C, gate, side, timing)
        return Computed(delta, B, C, y)

    def _scan(self, u: Tensor, delta: Tensor, B: Tensor, C: Tensor, gate: Tensor, side: Direction) -> Tensor:
        return selective_scan(
            u,
            delta,
            side.decay_rates(),
            B,
            C,
            skip=side.skip,
            gate=gate,
            delta_bias=side.dt_proj.bias,
            delta_softplus=True,
            reverse=side.reverse,
            impl=self.impl,
        )

    def _timed_scan(
        self, u: Tensor, delta: Tensor, B: Tensor, C: Tensor, gate: Tensor, side: Direction, timing: Timing
    ) -> Tensor:
        # A timing may change what the state takes in, but never what the skip adds, so both are parted here.
        delta, entering = timing.steps(step_sizes(delta, side.dt_proj.bias), u, reverse=side.reverse)
        y = selective_scan(entering.to(u.dtype), delta, side.decay_rates(), B, C, reverse=side.reverse, impl=self.impl)
        return ((y + side.skip * u) * F.silu(gate)).to(u.dtype)
