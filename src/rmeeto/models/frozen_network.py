"""A frozen model as inference on a processor wants it: from images to logits in one call.

That is for whoever wants logits and nothing else. Who reads features, source maps or what stands between two blocks,
has hooks in one, reduces by more than plain merging or puts something else in a layer's place gets what every block
computes by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rmeeto.models.block import Block
from rmeeto.models.frozen_ends import FrozenEnds
from rmeeto.ops.block import PackedBlock
from rmeeto.ops.merging import Matching
from rmeeto.ops.network import PackedNetwork
from rmeeto.reduction import Schedule, TokenMerge

if TYPE_CHECKING:
    from rmeeto.models.backbone import VisionMamba


class FrozenNetwork:
    """What :class:`VisionMamba` computes, from the weights it has now, in float32 or bfloat16 on a processor.

    ends: what stands before and behind the blocks, for whoever calls the blocks one by one.
    """

    def __init__(self, model: VisionMamba, dtype: torch.dtype) -> None:
        self.dtype, self.ends, self.layers = dtype, FrozenEnds(model, dtype), [*model.layers]
        self.frozen = [vars(layer).get("prepared") for layer in self.layers]
        inside = [module for layer in self.layers for module in layer.modules()]
        self.hooks = [hooks for module in inside for hooks in (module._forward_hooks, module._forward_pre_hooks)]
        self.choosing = [module for module in inside if hasattr(module, "impl")]
        self.latest: tuple[Schedule, Matching, PackedNetwork] | None = None

    def __call__(self, model: VisionMamba, images: Tensor) -> Tensor | None:
        """Logits of images or clips; None where they must go from block to block."""
        network = self.network(model, images)
        return None if network is None else network(images.float().contiguous())

    def reduction_seconds(self, model: VisionMamba, images: Tensor) -> float | None:
        """What all reductions take in such a pass; None where there is none."""
        network = self.network(model, images)
        return None if network is None else network.reduction_seconds(images.float().contiguous())

    def network(self, model: VisionMamba, images: Tensor) -> PackedNetwork | None:
        """What takes these images the whole way now."""
        if images.dtype != self.ends.dtype or images.shape[1:] != model.config.input_size or not self.is_wanted(model):
            return None
        matching, latest = matching_of(model), self.latest
        if matching is None:
            return None
        if latest is not None and latest[0] is model.schedule and latest[1] == matching:
            return latest[2]
        found = self.packed(model, matching)
        if found is not None:
            self.latest = model.schedule, matching, found
        return found

    def is_wanted(self, model: VisionMamba) -> bool:
        """Whether all is as it was packed, and nobody asks for other kernels or would notice that no block is called.

        What is looked at here has left the caches since the last image, so it is as little as can be.
        """
        layers = [*model.layers]
        return (
            layers == self.layers
            and not any(self.hooks)
            and all(module.impl in ("auto", "cpp") for module in self.choosing)
            and all(vars(layer).get("prepared") is frozen for layer, frozen in zip(layers, self.frozen, strict=True))
            and not any("forward" in vars(layer) for layer in layers)
            and self.ends.is_wanted(model)
        )

    def packed(self, model: VisionMamba, matching: Matching) -> PackedNetwork | None:
        """The whole under the present reduction; None where a part cannot be had in one call."""
        embedding, classifier = self.ends.embedding, self.ends.classifier
        if embedding is None or classifier is None:
            return None
        blocks, counts = packed_blocks(model, self.dtype), model.schedule.counts[: len(self.layers)]
        return (
            PackedNetwork(embedding, blocks, classifier, model.config.protected, counts, matching) if blocks else None
        )


def packed_blocks(model: VisionMamba, dtype: torch.dtype) -> list[PackedBlock]:
    """All blocks; none at all where one of them is not what it seems."""
    blocks = []
    for layer in model.layers:
        found = layer.frozen(dtype) if type(layer) is Block else None
        if found is None:
            return []
        blocks.append(found.packed)
    return blocks


def matching_of(model: VisionMamba) -> Matching | None:
    """How tokens are reduced on the way; None where that takes more than merging them by their own values."""
    reduction = model.reduction
    if reduction is None:
        return Matching()
    if not isinstance(reduction, TokenMerge) or reduction.features != "X" or model.schedule.counts[0]:
        return None
    return reduction.plain_matching()
