"""Parameters and tokens of Mamba blocks, and what a block gives when it is computed operation by operation."""

import torch

from rmeeto.ops.impl import reference
from rmeeto.ops.operands import BlockParameters, DirectionParameters

EPS = 1e-5


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
    p = BlockParameters.of([t.double() for t in parameters.flat()]) if dtype == torch.float64 else parameters
    residual = None if residual is None else residual.to(torch.promote_types(dtype, torch.float32))
    out, kept = reference.mamba_block(x.to(dtype), residual, p, EPS, scale)
    return {"x": out, "stream": kept.stream, "B_and_C": kept.b_and_c, "dt": kept.dt}
