"""The bidirectional Mamba mixer, layer by layer: what a block calls when one operation cannot compute all of it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmeeto.config import ModelConfig
from rmeeto.models.layers.linear import FORWARD_HOOKS, product_and_bias
from rmeeto.ops import ScanOperands, bidirectional_scan, causal_conv, selective_scan
from rmeeto.ops.operands import BlockParameters, DirectionParameters
from rmeeto.ops.select import Impl
from rmeeto.reduction.elapsed import ElapsedTime
from rmeeto.reduction.tokens import Features, step_sizes


class Direction(NamedTuple):
    """One direction's parameters; the official names give the backward ones a ``_b``."""

    A_log: nn.Parameter
    skip: nn.Parameter
    conv: nn.Conv1d
    x_proj: nn.Linear
    dt_proj: nn.Linear
    reverse: bool

    def decay_rates(self) -> Tensor:
        """A, ``(e, n)`` in float32 at least."""
        return -torch.exp(self.A_log.float() if self.A_log.dtype != torch.float64 else self.A_log)

    def parameters(self) -> DirectionParameters:
        """As `rmeeto.ops.mamba_block` takes them."""
        return DirectionParameters(
            conv_weight=self.conv.weight,
            conv_bias=self.conv.bias,  # type: ignore[arg-type]  # it has one
            A=self.decay_rates(),
            skip=self.skip,
            delta_bias=self.dt_proj.bias,
            x_proj=self.x_proj.weight,
            dt_proj=self.dt_proj.weight,
        )


class BidirectionalMixer(nn.Module):
    """Two selective scans over the tokens, one from each end, that share their projections in and out.

    Maps ``(b, l, d)`` to ``(b, l, d)`` and hands out the features of both directions in time order. Parameter
    names are the official ones (Vim's bidirectional Mamba, version 2).
    """

    def __init__(self, config: ModelConfig, impl: Impl = "auto") -> None:
        super().__init__()
        e, n, rank = config.inner, config.state, config.rank
        self.rank, self.state, self.conv_width = rank, n, config.conv_width
        self.impl: Impl = impl
        self.scale = 0.5 if config.halve else 1.0
        self.A_log = nn.Parameter(torch.empty(e, n))
        self.D = nn.Parameter(torch.empty(e))
        self.A_b_log = nn.Parameter(torch.empty(e, n))
        self.D_b = nn.Parameter(torch.empty(e))
        self.in_proj = nn.Linear(config.dim, 2 * e, bias=False)
        self.conv1d = nn.Conv1d(e, e, config.conv_width, groups=e)
        self.x_proj = nn.Linear(e, rank + 2 * n, bias=False)
        self.dt_proj = nn.Linear(rank, e)
        self.conv1d_b = nn.Conv1d(e, e, config.conv_width, groups=e)
        self.x_proj_b = nn.Linear(e, rank + 2 * n, bias=False)
        self.dt_proj_b = nn.Linear(rank, e)
        self.out_proj = nn.Linear(e, config.dim, bias=False)
        self.reset_parameters(config.depth)

    def directions(self) -> tuple[Direction, Direction]:
        """Forward and backward parameters."""
        return (
            Direction(self.A_log, self.D, self.conv1d, self.x_proj, self.dt_proj, reverse=False),
            Direction(self.A_b_log, self.D_b, self.conv1d_b, self.x_proj_b, self.dt_proj_b, reverse=True),
        )

    def block_parameters(self, norm_weight: Tensor) -> BlockParameters:
        """Its parameters and the norm's before it, as `rmeeto.ops.mamba_block` takes them."""
        forward, backward = (side.parameters() for side in self.directions())
        return BlockParameters(norm_weight, self.in_proj.weight, self.out_proj.weight, forward, backward)

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

    def forward(
        self,
        x: Tensor,
        timing: ElapsedTime | None = None,
        token_mask: Tensor | None = None,
        needs: frozenset[str] = frozenset(),
    ) -> tuple[Tensor, Features]:
        """Mix ``(b, l, d)`` tokens; also return what both directions computed about them, in time order.

        timing: of tokens among which others are missing, or None. token_mask: ``(b, l)``, 0 for empty slots, all of
            them after an image's last token; None if there are none. needs: the features that will be read; ``y``
            (each direction's output) is returned only if ``needs`` contains it.
        """
        u, gate = self.project(x)
        forward, backward = (self.project_direction(u, side, token_mask) for side in self.directions())
        outputs = None
        if timing is None and "y" not in needs:
            y = bidirectional_scan(forward, backward, gate, impl=self.impl)
        else:
            ahead, behind = outputs = (
                self.scan(forward, gate, timing=timing, reverse=False),
                self.scan(backward, gate, timing=timing, reverse=True),
            )
            y = ahead + behind
        delta, B, C, bias = ((getattr(forward, name), getattr(backward, name)) for name in HANDED_OUT)
        return self.combine(y), Features(B=B, C=C, delta=delta, y=outputs, delta_bias=bias)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(b, l, d)`` tokens to what the scans walk over and to what gates their output, each ``(b, l, e)``."""
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        return u, gate

    def combine(self, y: Tensor) -> Tensor:
        """The sum of both directions, ``(b, l, e)``, back to ``(b, l, d)``."""
        x: Tensor = self.out_proj(y)  # halving is exact, so it may wait until there are half as many numbers
        return x if self.scale == 1.0 else x * self.scale

    def direction(self, u: Tensor, gate: Tensor, side: Direction, token_mask: Tensor | None = None) -> Tensor:
        """One direction alone, from what :meth:`project` gave to what :meth:`combine` takes: ``(b, l, e)``."""
        return self.scan(self.project_direction(u, side, token_mask), gate, timing=None, reverse=side.reverse)

    def project_direction(self, u: Tensor, side: Direction, token_mask: Tensor | None = None) -> ScanOperands:
        """Convolve and project to Δ, B and C. Nothing is flipped: the ops walk from either end.

        token_mask: ``(b, l)``, 1 for tokens that count and 0 for those that convolution and state must ignore;
            None if all count.
        """
        if token_mask is not None:
            token_mask = token_mask[..., None].to(u.dtype)
            u = u * token_mask
        u = self.convolve(u, side)
        if token_mask is not None:
            u = u * token_mask  # the convolution has put its bias and its neighbours there
        dt, B, C = side.x_proj(u).split([self.rank, self.state, self.state], dim=-1)
        delta, bias = product_and_bias(side.dt_proj, dt)
        return ScanOperands(u, delta, side.decay_rates(), B, C, side.skip, delta_bias=bias)

    def convolve(self, u: Tensor, side: Direction) -> Tensor:
        """A direction's causal convolution and SiLU of ``(b, l, e)``."""
        conv = side.conv
        if is_plain_convolution(conv):
            return causal_conv(u, conv.weight, conv.bias, silu=True, reverse=side.reverse, impl=self.impl)
        ahead = u.flip(1) if side.reverse else u
        y = F.silu(conv(F.pad(ahead.mT, (self.conv_width - 1, 0))).mT)
        return y.flip(1) if side.reverse else y

    def scan(self, walk: ScanOperands, gate: Tensor, *, timing: ElapsedTime | None, reverse: bool) -> Tensor:
        """What one direction gives, gated."""
        u, delta, A, B, C, skip, _, bias = walk
        if timing is None:
            return selective_scan(
                *(u, delta, A, B, C),
                skip=skip,
                gate=gate,
                delta_bias=bias,
                delta_softplus=True,
                reverse=reverse,
                impl=self.impl,
            )
        assert skip is not None
        assert bias is not None
        # A timing may change what the state takes in, but never what the skip adds, so both are parted here.
        delta, entering = timing.steps(step_sizes(delta, bias), u, reverse=reverse)
        y = selective_scan(entering.to(u.dtype), delta, A, B, C, reverse=reverse, impl=self.impl)
        return ((y + skip * u) * F.silu(gate)).to(u.dtype)


HANDED_OUT = ("delta", "B", "C", "delta_bias")


def is_plain_convolution(conv: nn.Module) -> bool:
    """Whether a call of a layer convolves by its weight, parametrised or not, and does nothing else.

    Hooks count: those of pruning and of the older weight norm make the weight at each call.
    """
    if not isinstance(conv, nn.Conv1d) or getattr(conv.forward, "__func__", None) is not nn.Conv1d.forward:
        return False
    return not (conv._forward_hooks or conv._forward_pre_hooks or any(FORWARD_HOOKS))
