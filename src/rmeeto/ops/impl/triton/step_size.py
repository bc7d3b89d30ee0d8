"""The step size of the recurrence, from what the network projects: bias and softplus."""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _softplus(x):
    """Return log(1 + exp(x)) to float32's relative accuracy at both ends.

    max(x, 0) + log(1 + z) with z = exp(-|x|) in (0, 1]. The device's fast logarithm is accurate to 2^-22
    absolutely, too coarse for the small steps of a trained model, so log(1 + z) = 2 artanh(s), s = z / (2 + z),
    as s times a polynomial in s^2 in [0, 1/9] (fitted at Chebyshev nodes, relative error 4e-9).
    """
    z = tl.exp(-tl.abs(x))
    s = z / (2.0 + z)
    q = s * s
    poly = 0.28157778313522575 * q + 0.2796515775679465
    poly = poly * q + 0.40024595229818943
    poly = poly * q + 0.6666632164140144
    poly = poly * q + 2.000000007681758
    return tl.maximum(x, 0.0) + s * poly


@triton.jit
def biased(delta, bias):
    """Return the number whose softplus, or which itself, is the step size."""
    d = delta.to(tl.float32)
    if bias is not None:
        d += bias
    return d


@triton.jit
def step_size(delta, bias, SOFTPLUS: tl.constexpr):
    """Return how far the recurrence goes at a token: d of the equations."""
    d = biased(delta, bias)
    return _softplus(d) if SOFTPLUS else d
