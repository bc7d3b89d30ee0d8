"""Checks of a model's input: a dense tensor of the model's precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rmeeto.errors import UnsupportedInput


def check_images(images: Any, weight: Tensor) -> None:
    """Refuse inputs other than a dense floating-point tensor of the precision and on the device of a model's weight.

    Under autocast every precision but float64 is allowed.

    Raises:
        UnsupportedInput: something else.
    """
    asked = "run the model on images"
    if not isinstance(images, Tensor):
        why, fix = "a model takes a tensor", "prepare pictures by rmeeto.data.evaluation_transform, or torch.as_tensor"
        raise UnsupportedInput(asked, given=f"a {type(images).__name__}", why=why, fix=fix)
    if images.device.type != weight.device.type:
        given, why = f"images on {images.device}", f"the model is on {weight.device}"
        raise UnsupportedInput(asked, given=given, why=why, fix=f"images.to({str(weight.device)!r})")
    if images.dtype == weight.dtype and images.layout is torch.strided:
        return
    given = f"{tuple(images.shape)} {images.dtype}, {str(images.layout).removeprefix('torch.')}"
    if images.layout is not torch.strided:
        raise UnsupportedInput(asked, given=given, why="images are dense", fix="images.to_dense()")
    if not images.is_floating_point():
        why = "pixels are numbers that were scaled and normalised, in floating point"
        raise UnsupportedInput(asked, given=given, why=why, fix="(images.float() / 255 - mean) / std")
    if not torch.is_autocast_enabled(images.device.type) or images.dtype == torch.float64:
        why = f"the model's weights are {weight.dtype}"
        raise UnsupportedInput(asked, given=given, why=why, fix=f"images.to({weight.dtype}), or torch.autocast")
