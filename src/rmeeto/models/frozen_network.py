"""CPU inference of a whole frozen model: from images to logits in one call.

Used only for plain logits. The model runs block by block instead if features or source maps are read, if a block has
hooks or a replaced layer, or if the reduction is more than plain merging.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rmeeto.models.block import BLOCK_METHODS, Block
from rmeeto.models.frozen_ends import FrozenEnds, layers_of
from rmeeto.models.snapshot import Method, Snapshot
from rmeeto.ops.merging import Matching
from rmeeto.ops.network import PackedNetwork
from rmeeto.ops.packed.block import PackedBlock, unsupported_reason
from rmeeto.reduction import Reduction, Schedule, TokenMerge

if TYPE_CHECKING:
    from rmeeto.models.backbone import VisionMamba


class FrozenNetwork:
    """What :class:`VisionMamba` computes, from the weights it has now, in float32 or bfloat16 on a processor.

    ends: what stands before and behind the blocks, for a pass that calls the blocks one by one.
    methods: of the model, which no packed part calls.
    """

    def __init__(self, model: VisionMamba, dtype: torch.dtype, methods: Sequence[Method]) -> None:
        self.dtype, self.ends, self.methods = dtype, FrozenEnds(model, dtype, methods), methods
        self.input_size = model.config.input_size
        self.blocks: tuple[Snapshot, list[PackedBlock]] | None = None
        self.latest: tuple[Reduction | None, Schedule, PackedNetwork] | None = None

    @staticmethod
    def is_possible(model: VisionMamba, dtype: torch.dtype) -> bool:
        """Whether machine and ends have what it takes; each block answers for itself."""
        reason = unsupported_reason(dtype, model.config.state, model.config.conv_width)
        return reason is None and FrozenEnds.is_possible(model)

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
        if images.dtype != self.ends.dtype or images.shape[1:] != self.input_size:
            return None
        blocks = self.blocks or self.snapshot_blocks(model)
        if blocks is None or not blocks[0].holds():
            return None
        latest, reduction = self.latest, model.reduction
        if latest is not None and latest[0] is reduction and latest[1] is model.schedule:
            return latest[2] if reduction is None or reduction.as_written() else None  # type: ignore[attr-defined]
        matching = matching_of(model)
        network = None if matching is None else self.packed(model, matching, blocks[1])
        if network is not None:
            self.latest = reduction, model.schedule, network
        return network

    def snapshot_blocks(self, model: VisionMamba) -> tuple[Snapshot, list[PackedBlock]] | None:
        """All blocks, and whether everything is as it is now; None if something cannot be packed, or has changed."""
        if not self.ends.snapshot.holds() or not packed_blocks(model, self.dtype):
            return None
        called = [*layers_of(model), *(module for layer in model.layers for module in layer.modules())]
        executors = [(vars(layer), "executor", layer.executor) for layer in model.layers]
        settings = [(model, "config"), (model, "_impl")]
        snapshot = Snapshot(
            [model, model.layers, *called], called, (*self.methods, *BLOCK_METHODS), settings, executors
        )
        blocks = packed_blocks(model, self.dtype)  # once more: nothing has changed while the snapshot was taken
        self.blocks = (snapshot, blocks) if blocks and self.ends.snapshot.holds() else None
        return self.blocks

    def packed(self, model: VisionMamba, matching: Matching, blocks: list[PackedBlock]) -> PackedNetwork | None:
        """The whole under the present reduction; None without an embedding or a classifier."""
        embedding, classifier = self.ends.embedding, self.ends.classifier
        if embedding is None or classifier is None:
            return None
        counts = model.schedule.counts[: len(blocks)]
        return PackedNetwork(embedding, blocks, classifier, model.config.protected, counts, matching)


def packed_blocks(model: VisionMamba, dtype: torch.dtype) -> list[PackedBlock]:
    """The packed blocks; an empty list if any block was replaced or cannot be packed."""
    blocks = []
    for layer in model.layers:
        found = layer.executor.packed_for(layer, dtype) if type(layer) is Block and layer.executor else None
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
