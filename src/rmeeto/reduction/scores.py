"""Scores: how much each token matters. No gradient flows through a choice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rmeeto.ops.autocast import without_autocast
from rmeeto.reduction.tokens import Features

CELLS = 2**22  # of a similarity matrix in memory at a time


def at_least_float32(values: Tensor) -> Tensor:
    """Values in float32 or float64: in less, rounding of sums over hundreds of channels would decide."""
    return values if values.dtype == torch.float64 else values.float()


@torch.no_grad()
def activity(values: Tensor) -> Tensor:
    """Σ max(0, v) over the channels of ``(b, l, f)``: ``(b, l)`` (ToP-ViM, the importance of a scan's output)."""
    return at_least_float32(values).clamp(min=0).sum(-1)


@torch.no_grad()
def mean_step(features: Features) -> Tensor:
    """Both directions' Δ, summed, in the mean of the channels: ``(b, l)`` (MTR)."""
    forward, backward = features.step_sizes()
    return (forward + backward).mean(-1)


@torch.no_grad()
def energy(features: Tensor, margin: float) -> Tensor:
    """Mean of ELU(cosine - margin) with all tokens, ``(b, n, f)`` to ``(b, n)``: high for one of many alike (PiToMe).

    Only a few rows of the n × n similarities are in memory at a time.
    """
    with without_autocast(features):
        unit = F.normalize(at_least_float32(features), dim=-1)
        rows = torch.split(unit, max(1, CELLS // unit.shape[1]), dim=1)
        return torch.cat([F.elu(part @ unit.transpose(1, 2) - margin).mean(-1) for part in rows], dim=1)


def ascending(score: Tensor, protected: Tensor) -> Tensor:
    """``(b, l)``: positions by rising score, equal ones by place, the ``(b, p)`` protected ones last."""
    return score.scatter(1, protected, torch.inf).sort(dim=1, stable=True).indices
