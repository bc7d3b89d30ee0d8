"""CPU inference of a whole frozen model: from images to logits in one call.

Used only for plain logits. The model runs block by block instead if features or source maps are read, if a block has
hooks or a replaced layer, or if the reduction is more than plain merging.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from rmeeto.models.inference.conditions import (
    MERGING,
    names_in,
    outside_blocks,
    why_not_merge,
    why_not_pack,
    why_not_these,
)
from rmeeto.models.inference.ends import FrozenEnds
from rmeeto.models.inference.snapshot import Snapshot
from rmeeto.models.layers.linear import product_dtype
from rmeeto.models.vim.as_written import Method
from rmeeto.models.vim.backbone import MODEL_METHODS, VisionMamba
from rmeeto.models.vim.block import BLOCK_METHODS, Block
from rmeeto.ops.merging import Pairing
from rmeeto.ops.packed.block import PackedBlock
from rmeeto.ops.packed.network import PackedNetwork
from rmeeto.ops.pairs import Matching
from rmeeto.ops.select import inference_obstacle, infers_on_processor
from rmeeto.reduction import Reduction, Schedule


class NetworkExecutor:
    """What `rmeeto.freeze` installs in a :class:`VisionMamba`: packs it at the first call in each precision."""

    def __init__(self) -> None:
        self.networks: dict[torch.dtype, FrozenNetwork] = {}

    def __call__(self, model: VisionMamba, images: Tensor) -> Tensor | None:
        """Logits of images or clips, in one call if possible; None if the model has to compute them by itself."""
        frozen = self.packed_for(model, images)
        if frozen is None:
            return None
        network = frozen.network(model, images)
        if network is not None:
            return network(images.float().contiguous())
        tokens = model.forward_blocks(images)
        logits = frozen.ends.classify(tokens)
        return model.classify(model.final_norm(tokens)) if logits is None else logits

    def embed(self, model: VisionMamba, images: Tensor) -> Tensor | None:
        """Tokens ``(b, l, d)`` of images or clips; None if the model has to compute them by itself."""
        frozen = self.packed_for(model, images)
        return None if frozen is None else frozen.ends.embed(images)

    def reduction_seconds(self, model: VisionMamba, images: Tensor) -> float | None:
        """What all reductions take in a pass that is one call; None if it is not."""
        frozen = self.packed_for(model, images)
        network = None if frozen is None else frozen.network(model, images)
        return None if network is None else network.reduction_seconds(images.float().contiguous())

    def why_not(self, model: VisionMamba, images: Tensor) -> list[str]:
        """What stops one call; empty if nothing does."""
        obstacle = inference_obstacle(images)
        if obstacle is not None:
            return [obstacle]
        frozen = self.packed_for(model, images)
        if frozen is None:
            return [*why_not_pack(model, product_dtype(model.cls_token))]
        return [*frozen.why_not(model, images)]

    def packed_for(self, model: VisionMamba, x: Tensor) -> FrozenNetwork | None:
        """The model packed for products in the present precision; None if it cannot be."""
        if not infers_on_processor(x):
            return None
        dtype = product_dtype(model.cls_token)
        if dtype not in self.networks and not any(why_not_pack(model, dtype)):
            self.networks[dtype] = FrozenNetwork(model, dtype, [method.of(type(model)) for method in MODEL_METHODS])
        return self.networks.get(dtype)


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

    def network(self, model: VisionMamba, images: Tensor) -> PackedNetwork | None:
        """What takes these images the whole way now; None if something stops it."""
        if why_not_these(images, self.ends.dtype, self.input_size):
            return None
        blocks = self.blocks or self.snapshot_blocks(model)
        if blocks is None or not blocks[0].holds():
            return None
        latest, reduction = self.latest, model.reduction
        if latest is not None and latest[0] is reduction and latest[1] is model.schedule:
            return latest[2] if reduction is None or reduction.as_written() else None  # type: ignore[attr-defined]
        network = None if any(why_not_merge(model)) else self.packed(model, blocks[1])
        self.latest = None if network is None else (reduction, model.schedule, network)
        return network

    def why_not(self, model: VisionMamba, images: Tensor) -> Iterator[str]:
        """What stops these images from going the whole way."""
        yield from why_not_these(images, self.ends.dtype, self.input_size)
        yield from self.ends.missing
        blocks, names = self.blocks or self.snapshot_blocks(model), names_in(model)
        if blocks is None:
            yield from self.ends.snapshot.changes(names)
            yield from why_not_blocks(model, self.dtype, names)
        else:
            yield from blocks[0].changes(names)
        yield from why_not_merge(model)

    def snapshot_blocks(self, model: VisionMamba) -> tuple[Snapshot, list[PackedBlock]] | None:
        """All blocks, and whether everything is as it is now; None if something cannot be packed, or has changed."""
        if not self.ends.snapshot.holds() or not packed_blocks(model, self.dtype):
            return None
        called = [
            *outside_blocks(model).values(),
            *(module for layer in model.layers for module in layer.modules()),
        ]
        executors = [(vars(layer), "executor", layer.executor) for layer in model.layers]
        settings = [(model, "config"), (model, "_impl")]
        snapshot = Snapshot(
            [model, model.layers, *called], called, (*self.methods, *BLOCK_METHODS), settings, executors
        )
        blocks = packed_blocks(model, self.dtype)  # once more: nothing has changed while the snapshot was taken
        self.blocks = (snapshot, blocks) if blocks and self.ends.snapshot.holds() else None
        return self.blocks

    def packed(self, model: VisionMamba, blocks: list[PackedBlock]) -> PackedNetwork | None:
        """The whole under the present reduction; None without an embedding or a classifier."""
        embedding, classifier = self.ends.embedding, self.ends.classifier
        if embedding is None or classifier is None:
            return None
        reduction = model.reduction
        matching: Pairing | None = reduction.plain_matching() if isinstance(reduction, MERGING) else Matching()
        assert matching is not None
        counts = model.schedule.counts[: len(blocks)]
        return PackedNetwork(embedding, blocks, classifier, model.config.protected, counts, matching)


def why_not_blocks(model: VisionMamba, dtype: torch.dtype, names: dict[nn.Module, str]) -> Iterator[str]:
    """What stops blocks from being packed, or from being used as they were packed."""
    if not len(model.layers):
        yield "the model has no blocks"
    for number, layer in enumerate(model.layers):
        if type(layer) is not Block:
            yield f"block {number} is a {type(layer).__name__}"
        elif layer.executor is None:
            yield f"block {number} is not frozen"
        else:
            yield from layer.executor.why_not_packed(layer, dtype, names)


def packed_blocks(model: VisionMamba, dtype: torch.dtype) -> list[PackedBlock]:
    """The packed blocks; an empty list if any block was replaced or cannot be packed."""
    blocks = []
    for layer in model.layers:
        frozen = layer.executor.packed_for(layer, dtype) if type(layer) is Block and layer.executor else None
        if frozen is None:
            return []
        blocks.append(frozen.packed)
    return blocks
