"""The weights that DyVM adds to a network: heads that decide about tokens, and heads that decide about scans."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class TokenPredictor(nn.Module):
    """Probability of keeping each patch, from the patch and the mean of the patches still kept.

    A new predictor keeps the share that it should learn to keep, so that training does not start from a broken network.
    It has one output per patch where the authors have two: a softmax over two logits is a sigmoid of their difference.
    """

    def __init__(self, dim: int, keep: float) -> None:
        super().__init__()
        self.shared = dim // 2
        self.norm = nn.LayerNorm(dim)
        self.embed = nn.Sequential(nn.Linear(dim, dim), nn.GELU())
        last = nn.Linear(dim // 4, 1)
        self.score = nn.Sequential(nn.Linear(dim, dim // 2), nn.GELU(), nn.Linear(dim // 2, dim // 4), nn.GELU(), last)
        nn.init.constant_(last.bias, log_odds(keep))

    def forward(self, stream: Tensor, weight: Tensor) -> Tensor:
        """Log-odds ``(b, l)`` in float32 at least, of a residual stream ``(b, l, d)``.

        weight: ``(b, l)``, 1 for kept patches; 0 for dropped patches and for the class token, which get -∞.
        """
        normalised = self.norm(stream.to(self.norm.weight.dtype))
        own, common = self.embed(normalised).tensor_split([stream.shape[-1] - self.shared], dim=-1)
        token_mask = weight[..., None].to(common.dtype)
        mean = (common * token_mask).sum(1, keepdim=True) / token_mask.sum(1, keepdim=True).clamp(min=1)
        scores: Tensor = self.score(torch.cat([own, mean.expand_as(common)], dim=-1)).squeeze(-1)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return scores.masked_fill(weight == 0, -math.inf)


class DirectionGates(nn.Module):
    """Probability that an image needs each direction of a block's scan, from its class token after in_proj.

    A new gate opens every direction with the probability that it should learn. Before the first block all class tokens
    are alike, so there it learns one answer for all images.
    """

    def __init__(self, inner: int, directions: float) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * inner, 2)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, log_odds(directions))

    def forward(self, u: Tensor, gate: Tensor, cls_index: Tensor) -> Tensor:
        """Log-odds ``(b, 2)`` (forward, backward) in float32 at least, of both halves ``(b, l, e)`` of a projection.

        cls_index: ``(b,)``, the class token's position.
        """
        batch = torch.arange(u.shape[0], device=u.device)
        scores: Tensor = self.linear(torch.cat([u[batch, cls_index], gate[batch, cls_index]], dim=-1))
        return scores.to(torch.promote_types(scores.dtype, torch.float32))


def log_odds(share: float) -> float:
    """The logit of a share between 0 and 1."""
    return math.log(share) - math.log1p(-share)
