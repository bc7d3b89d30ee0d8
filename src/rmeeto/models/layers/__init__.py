"""Layers that networks are made of. They know no network."""

from rmeeto.models.layers.norm import RMSNorm, add_residual
from rmeeto.models.layers.patch_embed import PatchEmbed, inflate
from rmeeto.models.layers.position import (
    join_tokens,
    resize_position_embedding,
    resize_temporal_embedding,
    split_tokens,
)

__all__ = [
    "PatchEmbed",
    "RMSNorm",
    "add_residual",
    "inflate",
    "join_tokens",
    "resize_position_embedding",
    "resize_temporal_embedding",
    "split_tokens",
]
