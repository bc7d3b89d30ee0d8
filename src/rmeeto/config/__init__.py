"""Networks' sizes as frozen values. Know no tensors."""

from rmeeto.config.dynamic import DynamicConfig
from rmeeto.config.mamba import IMAGENET_MEAN, IMAGENET_STD, ModelConfig, PositionInterpolation
from rmeeto.config.sizes import Sizes, changed, check_fields
from rmeeto.config.transformer import TransformerConfig

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "DynamicConfig",
    "ModelConfig",
    "PositionInterpolation",
    "Sizes",
    "TransformerConfig",
    "changed",
    "check_fields",
]
