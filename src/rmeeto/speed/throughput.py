"""How many images per second one GPU trains on, and how that is known; and how many gradients it has to share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from rmeeto.config import Sizes
from rmeeto.cost import count
from rmeeto.errors import ConfigError
from rmeeto.models.factory import fresh_model
from rmeeto.reduction import Reduction

Origin = Literal["given", "measured", "estimated", "calibrated"]


@dataclass(frozen=True)
class Throughput:
    """The training speed of one GPU.

    images_per_second: forward, backward and AdamW. origin: how it is known. source: where it comes from, as the end of
    a sentence. batch: images per forward pass it was measured with, None if unknown.
    """

    images_per_second: float
    origin: Origin
    source: str
    batch: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def scaled(
    throughput: Throughput, config: Sizes, *, measured: Reduction | None, wanted: Reduction | None
) -> Throughput:
    """The throughput under another reduction of the same model, by the exact FLOPs; its source says so.

    Raises:
        ConfigError: one of the reductions has no FLOPs of its own, because they depend on the images.
    """
    if measured == wanted:
        return throughput
    for reduction in (measured, wanted):
        if reduction is not None and reduction.varies:
            raise ConfigError(
                f"scale a speed from {measured or 'none'} to {wanted or 'none'} by the FLOPs",
                why=f"the FLOPs of {reduction} depend on the images",
                fix="measure with the reduction that is planned",
            )
    factor = count(config, measured).total / count(config, wanted).total
    return replace(
        throughput,
        images_per_second=throughput.images_per_second * factor,
        origin="estimated",
        source=f"{throughput.source}; measured with {measured or 'none'} and scaled by the FLOPs, × {factor:.2f}, "
        f"to {wanted or 'none'}, which was not measured",
    )


def parameters_of(config: Sizes) -> int:
    """Weights of a network of these sizes, counted without making them."""
    known = getattr(config, "parameters", None)
    if isinstance(known, int):
        return known
    with torch.device("meta"):
        return sum(weight.numel() for weight in fresh_model(config, None, "auto").parameters())
