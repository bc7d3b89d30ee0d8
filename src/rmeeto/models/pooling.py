"""From the tokens that leave a network to what its head reads."""

from __future__ import annotations

from torch import Tensor

from rmeeto.reduction.match import patch_positions
from rmeeto.reduction.plan import take
from rmeeto.reduction.tokens import Tokens


def mean_token(x: Tensor, size: Tensor) -> Tensor:
    """The mean of ``(b, l, d)`` rows over l, each counted as often as its ``(b, l)`` size says: ``(b, d)``."""
    return (x * (size / size.sum(1, keepdim=True))[..., None]).sum(1)


def mean_patch(tokens: Tokens) -> Tensor:
    """The mean of the patches ``(b, d)``, every token counted as often as its size says; empty slots have size 0."""
    patches = patch_positions(tokens.protected, tokens.length)
    return mean_token(take(tokens.x, patches), take(tokens.sizes().to(tokens.x.dtype), patches))
