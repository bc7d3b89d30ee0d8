"""A network's sizes and the preparation of its images in the words of timm's ``pretrained_cfg``."""

from __future__ import annotations

from typing import Any

from rmeeto.config import ModelConfig


def described(config: ModelConfig) -> dict[str, Any]:
    """What timm wants to know of every model; ``input_size`` of a clip is ``(c, t, h, w)``."""
    return {
        "input_size": config.input_size,
        "fixed_input_size": True,  # a position table fits one size; set_input_size resamples it
        "pool_size": config.grid,
        "mean": config.mean,
        "std": config.std,
        "crop_pct": config.crop_pct,
        "interpolation": config.interpolation,
        "num_classes": config.num_classes,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }
