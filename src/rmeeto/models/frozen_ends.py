"""CPU inference of what stands before and behind a model's blocks: each is one call with packed weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rmeeto.models.layers import PatchEmbed, RMSNorm, join_tokens
from rmeeto.models.snapshot import Method, Snapshot, passes_all
from rmeeto.ops.ends import PackedClassifier, PackedEmbedding
from rmeeto.ops.watch import is_watchable
from rmeeto.reduction.tokens import Tokens

if TYPE_CHECKING:
    from rmeeto.models.backbone import VisionMamba


class FrozenEnds:
    """What :class:`VisionMamba` computes before and behind its blocks, from the weights it has now.

    dtype: of images, tokens and weights; products may have another.
    methods: of the model, which the packed ends do not call.
    """

    def __init__(self, model: VisionMamba, dtype: torch.dtype, methods: Sequence[Method]) -> None:
        self.dtype, layers = model.cls_token.dtype, layers_of(model)
        self.snapshot = Snapshot([model, *layers], layers, methods, [(model, "config"), (model, "_impl")])
        self.embedding = packed_embedding(model, dtype)
        self.classifier = packed_classifier(model, dtype)

    @staticmethod
    def is_possible(model: VisionMamba) -> bool:
        """Whether all parameters outside of the blocks are plain memory."""
        own = model.parameters(recurse=False)
        return all(map(is_watchable, (*own, *(x for layer in layers_of(model) for x in layer.parameters()))))

    def embed(self, images: Tensor) -> Tensor | None:
        """Images or clips to ``(b, l, d)`` tokens; None where they are not as the kernels read them."""
        if self.embedding is None or not (self.dtype == images.dtype == torch.float32) or not images.is_contiguous():
            return None
        return self.embedding(images) if self.snapshot.holds() else None

    def classify(self, tokens: Tokens) -> Tensor | None:
        """Logits of the class token; None without such a head, or where tokens are not as the kernels read them."""
        x, residual = tokens.x, tokens.residual
        if self.classifier is None or x.dtype not in (torch.float32, self.classifier.dtype):
            return None
        if not x.is_contiguous() or not (residual is None or residual.is_contiguous()):
            return None
        return self.classifier(x, residual, tokens.protected) if self.snapshot.holds() else None


def layers_of(model: VisionMamba) -> list[nn.Module]:
    """Those that stand before and behind the blocks, and theirs."""
    outside = (model.patch_embed, model.drop_path, model.norm_f, model.head_drop, model.head)
    return [module for layer in outside if layer is not None for module in layer.modules()]


def packed_embedding(model: VisionMamba, dtype: torch.dtype) -> PackedEmbedding | None:
    """Patches and learned tokens; None unless patches lie side by side and are embedded by our own layers."""
    config, embed = model.config, model.patch_embed
    if type(embed) is not PatchEmbed or type(embed.proj) not in (nn.Conv2d, nn.Conv3d):
        return None
    proj = embed.proj
    if proj.kernel_size != proj.stride or proj.bias is None or not is_simple(proj):
        return None
    biases = proj.bias.expand(1, config.time, config.grid[0] * config.grid[1], -1)
    learned = torch.full((1, len(config.protected)), -1)
    patch_at = join_tokens(torch.arange(config.patches)[None], learned, config.protected)
    return PackedEmbedding(dtype, proj.weight, model.placed(biases)[0], patch_at[0])


def is_simple(proj: nn.Conv2d | nn.Conv3d) -> bool:
    """Whether a convolution neither pads nor leaves gaps."""
    return proj.groups == 1 and not any(proj.padding) and set(proj.dilation) == {1}


def packed_classifier(model: VisionMamba, dtype: torch.dtype) -> PackedClassifier | None:
    """Norm and head; None unless they read the class token, and are our own norm and a linear layer with a bias."""
    norm, head = model.norm_f, model.head
    if model.config.global_pool != "token" or not passes_all(model.drop_path) or not passes_all(model.head_drop):
        return None
    if type(norm) is not RMSNorm or type(head) is not nn.Linear or head.bias is None:
        return None
    return PackedClassifier(dtype, norm.weight, norm.eps, head.weight, head.bias)
