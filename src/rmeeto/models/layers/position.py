"""Learned tokens among the patches, and position tables for other grids."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from rmeeto.config import PositionInterpolation


def split_tokens(rows: Tensor, positions: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Split ``(b, l, …)`` rows into those elsewhere ``(b, l - p, …)`` and those at ``p`` positions ``(b, p, …)``."""
    edges = [-1, *sorted(positions), rows.shape[1]]
    others = [rows[:, position + 1 : following] for position, following in pairwise(edges)]
    return torch.cat(others, dim=1), torch.cat([rows[:, position : position + 1] for position in positions], dim=1)


def join_tokens(others: Tensor, listed: Tensor, positions: tuple[int, ...]) -> Tensor:
    """Undo :func:`split_tokens`: ``(b, n, …)`` and ``(b, p, …)`` rows as one sequence ``(b, n + p, …)``."""
    pieces, done = [], 0
    for rank, (position, number) in enumerate(sorted((position, number) for number, position in enumerate(positions))):
        pieces += [others[:, done : position - rank], listed[:, number : number + 1]]
        done = position - rank
    return torch.cat([*pieces, others[:, done:]], dim=1)


def resize_position_embedding(
    table: Tensor,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    *,
    old_row: int,
    new_row: int,
    interpolation: PositionInterpolation = "bicubic",
) -> Tensor:
    """Resample a ``(1, h·w + 1, d)`` position table for another grid.

    Only the grid of patch rows is interpolated; the class token's row goes from its old position to its new one.

    interpolation: ``bicubic``, as Vim's and VideoMamba's own programs do before fine-tuning at another size, or
        ``antialiased``: bicubic with antialiasing, as timm does. They differ for larger and for smaller
        grids, because PyTorch uses different bicubic kernels for the two. (Vim's own program takes row 0 as the class
        token's, although its models have it in the middle; here the class token's own row is taken.)
    """
    patches, cls_row = split_tokens(table, (old_row,))
    planes = patches.transpose(1, 2).reshape(1, -1, *old_grid).float()
    antialias = interpolation == "antialiased"
    planes = F.interpolate(planes, size=new_grid, mode="bicubic", antialias=antialias, align_corners=False)
    rows = planes.flatten(2).transpose(1, 2).to(table.dtype)
    return join_tokens(rows, cls_row, (new_row,))


def resize_temporal_embedding(table: Tensor, time: int) -> Tensor:
    """Resample a ``(1, time, d)`` temporal table linearly for clips of another length, as VideoMamba's program does."""
    rows = F.interpolate(table.float().transpose(1, 2), size=time, mode="linear", align_corners=False)
    return rows.transpose(1, 2).to(table.dtype)
