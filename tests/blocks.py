"""Parameters and tokens of Mamba blocks, and what a block gives when it is computed operation by operation."""

import torch
import torch.nn.functional as F

from rmeeto.ops import Walk, add_norm, bidirectional_scan, causal_conv
from rmeeto.ops.block import BlockParameters, DirectionParameters

EPS = 1e-5
SIDE = len(DirectionParameters._fields)
NAMES = [*BlockParameters._fields[:3], *(f"{name} {side}" for side in (1, 2) for name in DirectionParameters._fields)]


def flat(parameters):
    return [*parameters[:3], *parameters.forward, *parameters.backward]


def parted(tensors):
    shared, sides = tensors[:3], tensors[3:]
    return BlockParameters(*shared, DirectionParameters(*sides[:SIDE]), DirectionParameters(*sides[SIDE:]))


def names_of(parameters):
    return [
        *BlockParameters._fields[:3],
        *(f"{side} {name}" for side in (1, 2) for name in DirectionParameters._fields),
    ]


def parameters_of(dim=12, inner=24, states=5, rank=3, width=4, dtype=torch.float32):
    def weight(*shape):
        return (torch.randn(*shape) / shape[-1] ** 0.5).to(dtype)

    def direction():
        return DirectionParameters(
            conv_weight=torch.randn(inner, 1, width) / 2,
            conv_bias=torch.randn(inner) / 2,
            A=-torch.rand(inner, states) * 4,
            skip=torch.randn(inner),
            delta_bias=torch.randn(inner) - 2,
            x_proj=weight(rank + 2 * states, inner),
            dt_proj=weight(inner, rank),
        )

    return BlockParameters(
        norm_weight=torch.rand(dim) + 0.5,
        in_proj=weight(2 * inner, dim),
        out_proj=weight(dim, inner),
        forward=direction(),
        backward=direction(),
    )


def tokens_of(batch, length, dim, dtype=torch.float32):
    return torch.randn(batch, length, dim, dtype=dtype), torch.randn(batch, length, dim)


def by_parts(parameters, x, residual, dtype, scale=1.0):
    """What a block gives, from the reference operations, with products and tokens in ``dtype``."""
    p = parted([parameter.double() for parameter in flat(parameters)]) if dtype == torch.float64 else parameters
    (rank, states), exact = (
        (p.forward.dt_proj.shape[1], p.forward.A.shape[1]),
        torch.promote_types(dtype, torch.float32),
    )
    residual = None if residual is None else residual.to(exact)
    normed, stream = add_norm(x.to(dtype), residual, p.norm_weight, eps=EPS, dtype=dtype, impl="reference")
    u, gate = F.linear(normed, p.in_proj).chunk(2, dim=-1)
    walks, mixed = [], []
    for k, side in enumerate((p.forward, p.backward)):
        walked = causal_conv(u, side.conv_weight, side.conv_bias, silu=True, reverse=bool(k), impl="reference")
        mixed.append(F.linear(walked, side.x_proj).split([rank, states, states], dim=-1))
        dt, B, C = mixed[k]
        walks.append(Walk(walked, F.linear(dt, side.dt_proj), side.A, B, C, side.skip, side.delta_bias))
    out = F.linear(bidirectional_scan(*walks, gate, impl="reference"), p.out_proj * scale)
    dt, B, C = (torch.stack(pair) for pair in zip(*mixed, strict=True))
    B_and_C = F.pad(torch.stack([B, C], dim=-2), (0, 16 - states))
    return {"x": out, "stream": stream, "B_and_C": B_and_C, "dt": dt}
