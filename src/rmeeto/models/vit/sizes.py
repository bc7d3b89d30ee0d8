"""Read a timm VisionTransformer's sizes off its layers."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rmeeto.config import TransformerConfig

PLAIN = (bool, int, float, str, list, tuple, type(None))


def sizes(model: VisionTransformer) -> TransformerConfig:
    """The sizes of the model's layers; its name and published configuration may differ."""
    embed: Any = model.patch_embed
    block: Any = model.blocks[0]
    *first, last = (layer for layer in block.mlp.modules() if isinstance(layer, nn.Linear))
    architecture, options = recipe(model)
    return TransformerConfig(
        architecture=architecture,
        options=options,
        img_size=tuple(embed.img_size),
        patch_size=tuple(embed.patch_size),
        grid=tuple(embed.grid_size),
        in_chans=embed.proj.in_channels,
        num_classes=model.num_classes,
        prefix=model.num_prefix_tokens,
        pool=model.global_pool,
        dim=model.embed_dim,
        depth=len(model.blocks),
        heads=block.attn.num_heads,
        head_dim=block.attn.head_dim,
        hidden=last.in_features,
        gated=sum(layer.out_features for layer in first) == 2 * last.in_features,
        layer_scale=not isinstance(block.ls1, nn.Identity),
    )


def recipe(model: VisionTransformer) -> tuple[str | None, dict[str, Any]]:
    """timm's name for the model, and the options that it was built with or has been given since.

    The name is None if the model was put together by hand, or has an option that is no plain value.
    """
    name = published(model).get("architecture")
    embed: Any = model.patch_embed
    options = dict(getattr(model, "_model_args", {}))
    options |= {"num_classes": model.num_classes, "global_pool": model.global_pool}
    options |= {"in_chans": embed.proj.in_channels, "img_size": list(embed.img_size)}
    if name is None or not all(isinstance(value, PLAIN) for value in options.values()):
        return None, {}
    return str(name), options


def published(model: VisionTransformer) -> dict[str, Any]:
    """timm's description of the model's published weights; empty for one that was put together by hand."""
    return dict(model.__dict__.get("pretrained_cfg") or {})
