"""The norm, and the residual stream that it reads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmeeto.ops.autocast import autocast_dtype
from rmeeto.ops.norm import add_norm
from rmeeto.ops.select import Impl
from rmeeto.reduction.tokens import Tokens


class RMSNorm(nn.Module):
    """Root mean square norm over the last axis, computed in the input's precision (at least float32).

    The result has the weight's dtype, or autocast's: that of the projection that follows.
    """

    def __init__(self, dim: int, eps: float = 1e-5, impl: Impl = "auto") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps
        self.impl: Impl = impl

    def add_residual(self, x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """Add ``x`` to the residual stream; the normalised sum, and the new stream, in at least float32."""
        dtype = autocast_dtype(x.device.type) or self.weight.dtype
        return add_norm(x, residual, self.weight, eps=self.eps, dtype=dtype, impl=self.impl)

    def forward(self, x: Tensor) -> Tensor:
        """``x / rms(x) · weight``."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps).to(self.weight.dtype)


def add_residual(tokens: Tokens, drop_path: nn.Module) -> Tensor:
    """The residual stream with the last block's output added, in at least float32."""
    x: Tensor = drop_path(tokens.x)
    if tokens.residual is None:
        return x if x.dtype == torch.float64 else x.float()
    return tokens.residual + x
