"""CPU inference of embedding and classifier: each is one call with packed weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmeeto.models.inference.conditions import outside_blocks, why_not_classify, why_not_embed
from rmeeto.models.inference.snapshot import Snapshot
from rmeeto.models.layers import join_tokens
from rmeeto.models.vim.as_written import Method
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.ops.packed.linear import PackedClassifier, PackedEmbedding
from rmeeto.reduction.tokens import Tokens


class FrozenEnds:
    """What :class:`VisionMamba` computes before and behind its blocks, from the weights it has now.

    dtype: of images, tokens and weights; products may have another.
    missing: why there is no packed embedding or no packed classifier, if one of them is None.
    methods: of the model, which the packed ends do not call.
    """

    def __init__(self, model: VisionMamba, dtype: torch.dtype, methods: Sequence[Method]) -> None:
        self.dtype, layers = model.cls_token.dtype, [*outside_blocks(model).values()]
        self.snapshot = Snapshot([model, *layers], layers, methods, [(model, "config"), (model, "_impl")])
        self.missing = [*why_not_embed(model), *why_not_classify(model)]
        self.embedding = None if any(why_not_embed(model)) else packed_embedding(model, dtype)
        self.classifier = None if any(why_not_classify(model)) else packed_classifier(model, dtype)

    def embed(self, images: Tensor) -> Tensor | None:
        """Images or clips to ``(b, l, d)`` tokens; None if the kernels cannot read them, and the layers must."""
        if self.embedding is None or not (self.dtype == images.dtype == torch.float32) or not images.is_contiguous():
            return None
        return self.embedding(images) if self.snapshot.holds() else None

    def classify(self, tokens: Tokens) -> Tensor | None:
        """Logits of the class token; None if there is no such head or the kernels cannot read the tokens."""
        x, residual = tokens.x, tokens.residual
        if self.classifier is None or x.dtype not in (torch.float32, self.classifier.dtype):
            return None
        if not x.is_contiguous() or not (residual is None or residual.is_contiguous()):
            return None
        return self.classifier(x, residual, tokens.protected) if self.snapshot.holds() else None


def packed_embedding(model: VisionMamba, dtype: torch.dtype) -> PackedEmbedding:
    """Patches and learned tokens."""
    return PackedEmbedding(dtype, model.patch_embed.proj.weight, *embedding_table(model))


def embedding_table(model: VisionMamba) -> tuple[Tensor, Tensor]:
    """What is added to the patch or learned at each place, ``(l, d)``, and which patch it is, or -1, ``(l,)``."""
    config, proj = model.config, model.patch_embed.proj
    assert proj.bias is not None
    biases = proj.bias.expand(1, config.time, config.grid[0] * config.grid[1], -1)
    learned = torch.full((1, len(config.protected)), -1)
    patch_at = join_tokens(torch.arange(config.patches)[None], learned, config.protected)
    return model.add_positions(biases)[0], patch_at[0]


def packed_classifier(model: VisionMamba, dtype: torch.dtype) -> PackedClassifier:
    """Norm and head."""
    norm, head = model.norm_f, model.head
    return PackedClassifier(dtype, norm.weight, norm.eps, head.weight, head.bias)  # type: ignore[arg-type]
