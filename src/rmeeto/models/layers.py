"""The small layers around the mixers: patch embedding, norm, position embedding and its resizing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmeeto.config import ModelConfig


class PatchEmbed(nn.Module):
    """Cut ``(b, c, h, w)`` images into patches and project each: ``(b, patches, d)``, row by row."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.in_chans, config.dim, config.patch_size, config.stride)

    def forward(self, images: Tensor) -> Tensor:
        """Project the patches."""
        patches: Tensor = self.proj(images)
        return patches.flatten(2).transpose(1, 2)


class RMSNorm(nn.Module):
    """Root mean square norm over the last axis, computed in the input's precision (at least float32).

    The result has the weight's dtype, ready for the projection that follows.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """``x / rms(x) · weight``."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps).to(self.weight.dtype)


def resize_position_embedding(
    table: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int], interpolation: str = "bicubic"
) -> Tensor:
    """Resample a ``(1, h·w + 1, d)`` position table for another grid.

    The class token's row stands after half of the patches, so it is taken out, the grid of patch rows is
    interpolated (anti-aliased), and it is put back in the new middle.
    """
    old_middle, new_middle = (grid[0] * grid[1] // 2 for grid in (old_grid, new_grid))
    cls_row = table[:, old_middle : old_middle + 1]
    patches = torch.cat([table[:, :old_middle], table[:, old_middle + 1 :]], dim=1)
    planes = patches.transpose(1, 2).reshape(1, -1, *old_grid).float()
    planes = F.interpolate(planes, size=new_grid, mode=interpolation, antialias=True, align_corners=False)
    rows = planes.flatten(2).transpose(1, 2).to(table.dtype)
    return torch.cat([rows[:, :new_middle], cls_row, rows[:, new_middle:]], dim=1)
