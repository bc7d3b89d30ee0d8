"""When a block's training on a processor may be one call each way, and that call.

The ordinary way through a block is a dozen operations, each of which leaves what it makes to memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rmeeto.models.plain import is_plain
from rmeeto.ops.block import unsupported_reason
from rmeeto.ops.select import trains_on_processor
from rmeeto.ops.trainable_block import trainable_block
from rmeeto.tokens import Tokens

if TYPE_CHECKING:
    from rmeeto.models.block import Block

INSIDE = frozenset({"B", "C", "delta", "y"})  # features that stay in the kernels
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_possible(block: Block, tokens: Tokens, needs: frozenset[str]) -> bool:
    """Whether kernels of this machine can train the block on these tokens: float32, some and none missing, no features.

    Whoever has put something else in a layer's place, or hooks on it, goes the ordinary way.
    """
    if needs & INSIDE or tokens.timing is not None or tokens.present is not None or not trains_on_processor(tokens.x):
        return False
    if not len(tokens.x):
        return False
    mixer = block.mixer
    if not is_plain(block) or not all(module.impl in ("auto", "cpp") for module in (mixer, block.norm)):
        return False
    if any(getattr(module, hooks) for module in block.modules() if module is not block for hooks in HOOKS):
        return False
    if any(x.dtype != torch.float32 or not x.is_contiguous() for x in block.parameters()):
        return False
    return unsupported_reason(torch.float32, mixer.state, mixer.conv1d.kernel_size[0]) is None


def run(block: Block, x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
    """What the block gives, and the residual stream that it saw."""
    mixer = block.mixer
    parameters = mixer.block_parameters(block.norm.weight)
    return trainable_block(x, residual, parameters, eps=block.norm.eps, scale=mixer.scale)
