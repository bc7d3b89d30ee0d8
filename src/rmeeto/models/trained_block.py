"""When a block's training on a processor may be one call each way, and that call.

The ordinary way through a block is a dozen operations, each of which leaves what it makes to memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rmeeto.models.linear import FORWARD_HOOKS
from rmeeto.models.plain import is_plain
from rmeeto.models.snapshot import BACKWARD_HOOKS, methods_are_as_written, replaces_methods
from rmeeto.ops.block import unsupported_reason
from rmeeto.ops.select import trains_on_processor
from rmeeto.ops.trainable_block import trainable_block
from rmeeto.reduction.tokens import Tokens

if TYPE_CHECKING:
    from rmeeto.models.block import Block

INSIDE = frozenset({"B", "C", "delta", "y"})  # features that stay in the kernels
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_possible(block: Block, tokens: Tokens, needs: frozenset[str]) -> bool:
    """Whether kernels of this machine can train the block on these tokens: float32, some and none missing, no features.

    Not if something else stands in the place of a layer, a parameter or a method, or if there are hooks on a layer.
    """
    if needs & INSIDE or tokens.timing is not None or tokens.present is not None or not trains_on_processor(tokens.x):
        return False
    if not len(tokens.x):
        return False
    mixer = block.mixer
    if not is_plain(block) or not all(module.impl in ("auto", "cpp") for module in (mixer, block.norm)):
        return False
    inner = [module for module in block.modules() if module is not block]
    if any(getattr(module, hooks) for module in inner for hooks in HOOKS) or any(FORWARD_HOOKS + BACKWARD_HOOKS):
        return False
    if not methods_are_as_written() or any(map(replaces_methods, (block, *inner))):
        return False
    if any(x.dtype != torch.float32 or not x.is_contiguous() for x in block.parameters()):
        return False
    return unsupported_reason(torch.float32, mixer.state, mixer.conv1d.kernel_size[0]) is None


def run(block: Block, x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
    """What the block gives, and the residual stream that it saw."""
    mixer = block.mixer
    parameters = mixer.block_parameters(block.norm.weight)
    return trainable_block(x, residual, parameters, eps=block.norm.eps, scale=mixer.scale)
