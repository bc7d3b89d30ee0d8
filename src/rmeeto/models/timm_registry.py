"""Our models under timm's roof: ``timm.create_model("vim_small")``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rmeeto.models import zoo

if TYPE_CHECKING:
    from rmeeto.models.backbone import VisionMamba


def register_with_timm() -> None:
    """Make every zoo name a timm entry point."""
    from timm.models import register_model

    for name in zoo.ZOO:
        register_model(_entry_point(name))


def _entry_point(name: str) -> Callable[..., VisionMamba]:
    """A function as timm wants it: named after the model, taking timm's keywords."""

    def build(
        pretrained: bool = False,
        pretrained_cfg: object = None,
        pretrained_cfg_overlay: object = None,
        cache_dir: object = None,
        **options: Any,
    ) -> VisionMamba:
        from rmeeto.models.factory import create_model  # timm may be loading on the factory's behalf just now

        return create_model(name, pretrained=pretrained, **options)

    build.__name__ = re.sub(r"\W", "_", name)
    build.__module__ = __name__
    return build
