"""CPU inference of a block: weights are packed once, and each forward pass is one call.

At batch 1 a block's arithmetic takes a few milliseconds at most, and less with every reduction, so the time of Python
and PyTorch around it counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from rmeeto.models.inference.snapshot import Snapshot
from rmeeto.models.layers.linear import product_dtype
from rmeeto.models.vim.as_written import Method, passes_all
from rmeeto.models.vim.block import ADD_RESIDUAL, Block, what_is_replaced
from rmeeto.ops.packed.block import BlockOutputs, PackedBlock, unsupported_reason
from rmeeto.ops.select import inference_obstacle
from rmeeto.ops.watch import is_watchable
from rmeeto.reduction.tokens import Features, Tokens

HANDED_OUT = frozenset({"B", "C", "delta"})


class BlockExecutor:
    """What `rmeeto.freeze` installs in a :class:`Block`: packs its weights at the first call in each precision."""

    def __init__(self) -> None:
        self.blocks: dict[torch.dtype, FrozenBlock] = {}

    def __call__(self, block: Block, tokens: Tokens, needs: frozenset[str]) -> tuple[Tokens, Features | None] | None:
        """What the block gives; None if the packed weights cannot compute it, and the layers must."""
        if why_not_these(tokens, needs) is not None:
            return None
        frozen = self.packed_for(block, product_dtype(block.norm.weight))
        return None if frozen is None or frozen.why_not_read(tokens.x) is not None else frozen(tokens, needs)

    def why_not(self, block: Block, tokens: Tokens, needs: frozenset[str], names: dict[nn.Module, str]) -> list[str]:
        """What stops the packed weights from computing the block; empty if nothing does."""
        if (reason := why_not_these(tokens, needs)) is not None:
            return [reason]
        dtype = product_dtype(block.norm.weight)
        frozen = self.packed_for(block, dtype)
        if frozen is None:
            return [*self.why_not_packed(block, dtype, names)]
        return [reason] if (reason := frozen.why_not_read(tokens.x)) is not None else []

    def packed_for(self, block: Block, dtype: torch.dtype) -> FrozenBlock | None:
        """The block packed for products in a precision; None if it cannot be, or has changed since."""
        if dtype not in self.blocks and not any(why_not_pack(block, dtype)):
            self.blocks[dtype] = FrozenBlock(block, dtype, [ADD_RESIDUAL.of(type(block))])
        frozen = self.blocks.get(dtype)
        return frozen if frozen is not None and frozen.snapshot.holds() else None

    def why_not_packed(self, block: Block, dtype: torch.dtype, names: dict[nn.Module, str]) -> Iterator[str]:
        """What stops the packed weights from being made, or from being used."""
        if dtype in self.blocks:
            yield from self.blocks[dtype].snapshot.changes(names)
        else:
            yield from (f"{names[block]}: {reason}" for reason in why_not_pack(block, dtype))


class FrozenBlock:
    """What :class:`Block` computes, from the weights it has now, in float32 or bfloat16 on a processor.

    It takes tokens among which none are missing, and hands out B, C and Δ of both directions, but no y.

    methods: of the block, which the packed one does not call.
    """

    def __init__(self, block: Block, dtype: torch.dtype, methods: Sequence[Method]) -> None:
        mixer, sides = block.mixer, block.mixer.directions()
        self.state = mixer.state
        inner = [module for module in block.modules() if module is not block]
        self.snapshot = Snapshot([block, *inner], inner, methods)  # before it is packed: a change meanwhile is seen
        self.dt_proj = torch.stack([side.dt_proj.weight.detach().to(dtype) for side in sides])
        self.delta_bias = [side.dt_proj.bias.detach().clone() for side in sides]
        self.packed = PackedBlock(dtype, mixer.block_parameters(block.norm.weight), block.norm.eps, mixer.scale)

    def why_not_read(self, x: Tensor) -> str | None:
        """Why the kernels cannot read tokens; None if they can."""
        if x.dtype not in (self.packed.dtype, torch.float32):
            return f"the tokens are {x.dtype}, the products {self.packed.dtype}"
        return None if x.is_contiguous() else "the tokens do not lie side by side in memory"

    def __call__(self, tokens: Tokens, needs: frozenset[str]) -> tuple[Tokens, Features | None]:
        """One block: the tokens with new ``x`` and ``residual``; features only where some are needed."""
        outputs = self.packed(tokens.x, tokens.residual)
        features = self.features(outputs, needs) if needs & HANDED_OUT else None
        return Tokens(outputs.x, outputs.stream, tokens.protected, tokens.size, plans=tokens.plans), features

    def features(self, outputs: BlockOutputs, needs: frozenset[str]) -> Features:
        """What both directions computed about the tokens; Δ, which is projected once more, only if it is needed."""
        (B, C), (B_behind, C_behind) = (side[..., : self.state].unbind(-2) for side in outputs.B_and_C)
        bias, bias_behind = self.delta_bias
        delta = None
        if "delta" in needs:
            ahead, behind = outputs.dt @ self.dt_proj[:, None].mT
            delta = ahead, behind
        return Features(B=(B, B_behind), C=(C, C_behind), delta=delta, y=None, delta_bias=(bias, bias_behind))


def why_not_these(tokens: Tokens, needs: frozenset[str]) -> str | None:
    """Why packed weights cannot compute a block of these tokens; None if nothing about them stops that."""
    if (obstacle := inference_obstacle(tokens.x)) is not None:
        return obstacle
    if tokens.timing is not None or tokens.lengths is not None:
        return "the tokens have gaps in time, or empty slots"
    return "the reduction reads y" if "y" in needs else None


def why_not_pack(block: Block, dtype: torch.dtype) -> Iterator[str]:
    """What stops block and machine from having packed products in dtype."""
    mixer = block.mixer
    if (replaced := what_is_replaced(block)) is not None:
        yield replaced
        return
    reason = unsupported_reason(dtype, mixer.state, mixer.conv1d.kernel_size[0])
    if reason is not None:
        yield reason
    if not passes_all(block.drop_path):
        yield "drop_path may drop values"
    yield from (f"{name} is not plain memory" for name, x in block.named_parameters() if not is_watchable(x))
