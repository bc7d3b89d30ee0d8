"""The device and precision that ``auto`` stands for on this machine, and the kernels that run there."""

from __future__ import annotations

from typing import Literal, cast

import torch

from rmeeto.errors import ConfigError, UnknownName
from rmeeto.ops.select import KERNELS, availability

ActualPrecision = Literal["float32", "bfloat16"]


def find_device(name: str) -> torch.device:
    """``auto`` is the GPU if there is one; otherwise a torch device name.

    Raises:
        ConfigError: torch does not know the device, or it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f"run on device {name!r}", why=why, fix='use device="cpu" or "auto"') from error
    return device


def find_precision(name: str, device: torch.device) -> ActualPrecision:
    """``auto`` is bfloat16 on a GPU that computes in it, float32 elsewhere."""
    if name == "auto":
        return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if name not in ("float32", "bfloat16"):
        raise UnknownName("precision", name, ("auto", "float32", "bfloat16"))
    return cast(ActualPrecision, name)


def autocast(device: torch.device, precision: ActualPrecision) -> torch.autocast:
    """The context in which the model runs: weights stay float32, products are computed in ``precision``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def backend(impl: str, device: torch.device) -> str:
    """The implementation that a model with this ``impl`` runs on a device."""
    kernel = KERNELS.get(device.type, "reference")
    if impl != "auto":
        return impl
    return kernel if availability()[kernel] == "ready" else "reference"


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its queued work, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
