"""Patches of images and clips, and image weights for clips."""

from __future__ import annotations

from torch import Tensor, nn

from rmeeto.config import ModelConfig


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


def inflate(weight: Tensor, tubelet: int) -> Tensor:
    """Patch weights ``(d, c, p, p)`` for images as ``(d, c, tubelet, p, p)`` for clips.

    Each frame gets an equal share, so that a still clip's patches are projected as the image's are.
    """
    return weight.unsqueeze(2).repeat(1, 1, tubelet, 1, 1) / tubelet
