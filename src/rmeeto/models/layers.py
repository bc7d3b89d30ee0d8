"""The small layers around the mixers: patch embedding, norm, classifier, position embedding and its resizing."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmeeto.config import ModelConfig, PositionInterpolation
from rmeeto.ops.autocast import autocast_dtype
from rmeeto.ops.norm import add_norm
from rmeeto.ops.select import Impl
from rmeeto.reduction.tokens import Tokens


class PatchEmbed(nn.Module):
    """Cut images ``(b, c, h, w)`` or clips ``(b, c, t, h, w)`` into patches and project each.

    Gives ``(b, time, grid, d)``: frame by frame, row by row; an image is one frame. The kernel is a parameter of a
    two- or three-dimensional convolution, so that official weights fit as they are.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size, stride = config.patch_size, config.stride
        self.proj: nn.Conv2d | nn.Conv3d
        if config.is_video:
            size_3d, stride_3d = (config.tubelet, size, size), (config.tubelet, stride, stride)
            self.proj = nn.Conv3d(config.in_chans, config.dim, size_3d, stride_3d)
        else:
            self.proj = nn.Conv2d(config.in_chans, config.dim, size, stride)

    def forward(self, images: Tensor) -> Tensor:
        """Project the patches."""
        patches: Tensor = self.proj(images)  # (b, d, [time,] rows, columns)
        time = patches.shape[2] if patches.ndim == 5 else 1
        return patches.reshape(*patches.shape[:2], time, patches.shape[-2] * patches.shape[-1]).permute(0, 2, 3, 1)


class RMSNorm(nn.Module):
    """Root mean square norm over the last axis, computed in the input's precision (at least float32).

    The result has the weight's dtype, or autocast's: that of the projection that follows.
    """

    def __init__(self, dim: int, eps: float = 1e-5, impl: Impl = "auto") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps
        self.impl: Impl = impl

    def join(self, x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        """Add ``x`` to the residual stream; the normalised sum, and the new stream, in at least float32."""
        dtype = autocast_dtype(x.device.type) or self.weight.dtype
        return add_norm(x, residual, self.weight, eps=self.eps, dtype=dtype, impl=self.impl)

    def forward(self, x: Tensor) -> Tensor:
        """``x / rms(x) · weight``."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps).to(self.weight.dtype)


def join(tokens: Tokens, drop_path: nn.Module) -> Tensor:
    """The residual stream with the last block's output added, in at least float32."""
    x: Tensor = drop_path(tokens.x)
    if tokens.residual is None:
        return x if x.dtype == torch.float64 else x.float()
    return tokens.residual + x


def classifier(config: ModelConfig) -> nn.Module:
    """A fresh classifier, or none for no classes."""
    if config.num_classes == 0:
        return nn.Identity()
    linear = nn.Linear(config.dim, config.num_classes)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear


def split_tokens(rows: Tensor, places: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Split ``(b, l, …)`` rows into those elsewhere ``(b, l - p, …)`` and those at ``p`` positions ``(b, p, …)``."""
    edges = [-1, *sorted(places), rows.shape[1]]
    others = [rows[:, place + 1 : following] for place, following in pairwise(edges)]
    return torch.cat(others, dim=1), torch.cat([rows[:, place : place + 1] for place in places], dim=1)


def join_tokens(others: Tensor, listed: Tensor, places: tuple[int, ...]) -> Tensor:
    """Undo :func:`split_tokens`: ``(b, n, …)`` and ``(b, p, …)`` rows as one sequence ``(b, n + p, …)``."""
    pieces, done = [], 0
    for rank, (place, number) in enumerate(sorted((place, number) for number, place in enumerate(places))):
        pieces += [others[:, done : place - rank], listed[:, number : number + 1]]
        done = place - rank
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

    The class token's row is taken out of its place, the grid of patch rows is interpolated, and the class token's row
    is put in its new place.

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


def inflate(weight: Tensor, tubelet: int) -> Tensor:
    """Patch weights ``(d, c, p, p)`` for images as ``(d, c, tubelet, p, p)`` for clips.

    Each frame gets an equal share, so that a still clip's patches are projected as the image's are.
    """
    return weight.unsqueeze(2).repeat(1, 1, tubelet, 1, 1) / tubelet
