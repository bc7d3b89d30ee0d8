"""Pooling of tokens that stand for several patches each."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from rmeeto.models.pooling import mean_token
from rmeeto.reduction.match import patch_positions
from rmeeto.reduction.plan import take
from rmeeto.reduction.tokens import Tokens


def pool(model: VisionTransformer, tokens: Tokens) -> Tensor:
    """``(b, d)``: the model's pooling over patches, every token counted as often as its size says.

    So merging identical tokens changes nothing, and an empty slot, of size 0, has no part in it. Class and register
    tokens take part if the model's pooling includes them.
    """
    x, size = tokens.x, tokens.sizes().to(tokens.x.dtype)
    if not getattr(model, "pool_include_prefix", False):  # an option that older timm does not have
        patches = patch_positions(tokens.protected, tokens.length)
        x, size = take(x, patches), take(size, patches)
    if model.global_pool == "map":
        pooled: Tensor = model.attn_pool(x, attn_mask=size.log()[:, None, None])
        return pooled
    mean = mean_token(x, size)
    if model.global_pool == "avg":
        return mean
    if tokens.lengths is not None:
        x = x.masked_fill(size[..., None] == 0, -torch.inf)
    largest = x.amax(1)
    return largest if model.global_pool == "max" else (mean + largest) / 2
