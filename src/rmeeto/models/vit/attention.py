"""Proportional attention: timm's own layers, with the number of patches that each key stands for as a bias."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from rmeeto.reduction.tokens import AttentionFeatures


def attend(attention: Any, x: Tensor, size: Tensor | None) -> tuple[Tensor, AttentionFeatures]:
    """Self-attention over ``(b, l, d)`` tokens, and the queries, keys and values it was computed from.

    attention: the layers and their numbers, timm's ``Attention``.
    size: ``(b, l)``, how many tokens each one stands for. A key of size s draws as much attention as s equal keys
    would: softmax(q·kᵀ/√f + log s), equation 1 of Bolya et al., "Token Merging: Your ViT But Faster" (ICLR 2023). An
    empty slot has size 0, and log 0 = -∞ hides it from all queries.
    The bias goes through the fused kernel; None, while every size is 1, leaves attention unchanged.
    """
    batch, length, _ = x.shape
    qkv = attention.qkv(x).reshape(batch, length, 3, attention.num_heads, attention.head_dim)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    q, k = attention.q_norm(q), attention.k_norm(k)
    bias = None if size is None else size.log()[:, None, None].to(q.dtype)
    dropout = attention.attn_drop.p if attention.training else 0.0
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
    mixed = mixed.transpose(1, 2).reshape(batch, length, -1)
    # timm gave attention these two parts later than the others
    if (norm := getattr(attention, "norm", None)) is not None:
        mixed = norm(mixed)
    if (gate := getattr(attention, "gate", None)) is not None:
        mixed = mixed * gate(x).sigmoid()
    return attention.proj_drop(attention.proj(mixed)), AttentionFeatures(q, k, v)
