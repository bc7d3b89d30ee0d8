"""Token reduction on timm's Vision Transformers."""

from rmeeto.models.vit.transformer import ReducibleTransformer, reduce, restore

__all__ = ["ReducibleTransformer", "reduce", "restore"]
