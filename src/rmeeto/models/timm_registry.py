"""Our models under timm's roof: ``timm.create_model("vim_small")``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rmeeto.models import zoo

if TYPE_CHECKING:
    from rmeeto.models.backbone import VisionMamba
    from rmeeto.models.dense import FeatureMaps


LAST_BLOCKS = 3  # maps that features_only gives by default, as timm's ViTs do


def register_with_timm() -> None:
    """Make every zoo name a timm entry point."""
    from timm.models import register_model

    for name in zoo.ZOO:
        register_model(_entry_point(name))


def _entry_point(name: str) -> Callable[..., VisionMamba | FeatureMaps]:
    """A function as timm wants it: named after the model, taking timm's keywords.

    ``features_only=True`` gives :class:`FeatureMaps` after the blocks in ``out_indices``.
    """

    def build(
        pretrained: bool = False,
        pretrained_cfg: object = None,
        pretrained_cfg_overlay: object = None,
        cache_dir: object = None,
        features_only: bool = False,
        out_indices: int | tuple[int, ...] = LAST_BLOCKS,
        norm: bool = False,
        output_fmt: str = "NCHW",
        **options: Any,
    ) -> VisionMamba | FeatureMaps:
        # timm may be loading on their behalf just now
        from rmeeto.models.dense import FeatureMaps
        from rmeeto.models.factory import create_model

        model = create_model(name, pretrained=pretrained, **options)
        if not features_only:
            return model
        return FeatureMaps(model, out_indices, norm=norm, output_fmt=output_fmt)

    build.__name__ = re.sub(r"\W", "_", name)
    build.__module__ = __name__
    return build
