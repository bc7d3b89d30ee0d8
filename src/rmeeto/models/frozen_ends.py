"""The first and the last step of a model as inference on a processor wants them, each in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rmeeto.models.layers import RMSNorm, join_tokens
from rmeeto.models.linear import Linear
from rmeeto.ops.ends import PackedClassifier, PackedEmbedding
from rmeeto.tokens import Tokens

if TYPE_CHECKING:
    from rmeeto.models.backbone import VisionMamba


class FrozenEnds:
    """What :class:`VisionMamba` computes before and behind its blocks, from the weights it has now.

    dtype: of images, tokens and weights; products may have another.
    """

    def __init__(self, model: VisionMamba, dtype: torch.dtype) -> None:
        config, proj, norm, head = model.config, model.patch_embed.proj, model.norm_f, model.head
        self.dtype, self.layers = model.cls_token.dtype, layers_of(model)
        present = [layer for layer in self.layers if layer is not None]  # somebody may have cut the head off
        self.hooks = [hooks for layer in present for hooks in (layer._forward_hooks, layer._forward_pre_hooks)]
        self.embedding: PackedEmbedding | None = None
        if proj.kernel_size == proj.stride:
            assert proj.bias is not None
            biases = proj.bias.expand(1, config.time, config.grid[0] * config.grid[1], -1)
            learned = torch.full((1, len(config.protected)), -1)
            patch_at = join_tokens(torch.arange(config.patches)[None], learned, config.protected)
            self.embedding = PackedEmbedding(dtype, proj.weight, model.placed(biases)[0], patch_at[0])
        self.classifier: PackedClassifier | None = None
        reads_class_token = config.global_pool == "token"
        if reads_class_token and type(norm) is RMSNorm and type(head) is Linear and head.bias is not None:
            self.classifier = PackedClassifier(dtype, norm.weight, norm.eps, head.weight, head.bias)

    def is_wanted(self, model: VisionMamba) -> bool:
        """Whether the layers are those that were packed, and nobody asks for other kernels or has hooks on them."""
        return layers_of(model) == self.layers and not any(self.hooks) and model.impl in ("auto", "cpp")

    def embed(self, model: VisionMamba, images: Tensor) -> Tensor | None:
        """Images or clips to ``(b, l, d)`` tokens; None where they are not as the kernels read them."""
        if self.embedding is None or not (self.dtype == images.dtype == torch.float32) or not images.is_contiguous():
            return None
        return self.embedding(images) if self.is_wanted(model) else None

    def classify(self, model: VisionMamba, tokens: Tokens) -> Tensor | None:
        """Logits of the class token; None without such a head, or where tokens are not as the kernels read them."""
        x, residual = tokens.x, tokens.residual
        if self.classifier is None or x.dtype not in (torch.float32, self.classifier.dtype):
            return None
        if not x.is_contiguous() or not (residual is None or residual.is_contiguous()):
            return None
        return self.classifier(x, residual, tokens.protected) if self.is_wanted(model) else None


def layers_of(model: VisionMamba) -> tuple[nn.Module, ...]:
    """Those that stand before and behind the blocks."""
    return (model.patch_embed, model.patch_embed.proj, model.drop_path, model.norm_f, model.head_drop, model.head)
