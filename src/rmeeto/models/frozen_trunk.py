"""All blocks of a frozen model in one call, where nobody wants to see what stands between them.

A small image keeps a processor busy for ten milliseconds or two; walking from block to block and building the tokens
of every reduction would take a tenth of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rmeeto.models.block import Block
from rmeeto.ops.block import PackedBlock
from rmeeto.ops.merging import Matching
from rmeeto.ops.select import infers_on_processor
from rmeeto.ops.trunk import run_trunk
from rmeeto.reduction import TokenMerge
from rmeeto.tokens import Tokens

if TYPE_CHECKING:
    from rmeeto.models.backbone import VisionMamba


def passed(model: VisionMamba, tokens: Tokens) -> Tokens | None:
    """The tokens that leave the last block, without sizes and plans; None where they must be walked block by block."""
    matching, x = matching_of(model), tokens.x
    if matching is None or not infers_on_processor(x) or not x.is_contiguous():
        return None
    blocks = packed_blocks(model)
    if not blocks or x.dtype not in (blocks[0].dtype, torch.float32):
        return None
    found = run_trunk(blocks, model.schedule.counts[: len(blocks)], x, tokens.protected, matching)
    return Tokens(found.x, found.stream, found.protected)


def packed_blocks(model: VisionMamba) -> list[PackedBlock] | None:
    """All blocks in one precision; None where one of them cannot run without being called."""
    blocks: list[PackedBlock] = []
    for layer in model.layers:
        found = layer.alone() if type(layer) is Block else None
        if found is None or (blocks and found.packed.dtype != blocks[0].dtype):
            return None
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
