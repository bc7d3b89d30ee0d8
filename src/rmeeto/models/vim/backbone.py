"""Vision Mamba, top to bottom: embed → [reduce → mix] × depth → norm → head.

What is unusual:
* the class token stands in the middle of the patches (Vim) or before them (VideoMamba), registers all over the
  sequence, and reductions move them; their positions are part of the tokens;
* a clip differs from an image in its embedding and in nothing else;
* the residual stream is float32 whatever the weights are;
* a block returns its features beside its tokens, because the next block may reduce by them;
* a model without a reduction is the teacher: its schedule removes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rmeeto.config import ModelConfig
from rmeeto.errors import UnsupportedInput
from rmeeto.models.images import check_images
from rmeeto.models.layers import PatchEmbed, RMSNorm, add_residual, join_tokens, split_tokens
from rmeeto.models.layers.freezing import Freezable
from rmeeto.models.pooling import mean_patch
from rmeeto.models.reducible import Trace as Trace  # the former version pickled it as backbone.Trace
from rmeeto.models.vim.as_written import methods_of
from rmeeto.models.vim.block import Block
from rmeeto.models.vim.mixers import BidirectionalMixer
from rmeeto.models.vim.timm_interface import TimmInterface, classifier
from rmeeto.ops.select import Impl
from rmeeto.reduction import Reduction
from rmeeto.reduction.protocol import Step
from rmeeto.reduction.tokens import Features, Tokens

if TYPE_CHECKING:
    from jaxtyping import Float


class VisionMamba(TimmInterface, Freezable):
    """A bidirectional Vision Mamba (Vim, VideoMamba) of images or clips with token reduction between its blocks.

    Assign ``model.reduction = TokenMerge(r=11)`` at any time, or None for the unreduced model.
    ``model.schedule`` then says how many tokens every block sees; ``model.impl`` picks the kernels.

    It can be used as a model of timm's, see :class:`TimmInterface`. :meth:`encode` and :meth:`classify` are the same
    steps on :class:`Tokens`, which know where each token came from.
    """

    def __init__(self, config: ModelConfig, reduction: Reduction | None = None, *, impl: Impl = "auto") -> None:
        super().__init__()
        self.config = config
        self.published_cfg: dict[str, Any] = {}
        self.grad_checkpointing = False
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.empty(1, config.grid[0] * config.grid[1] + 1, config.dim))
        self.temporal_pos_embedding: nn.Parameter | None = None
        if config.is_video:
            self.temporal_pos_embedding = nn.Parameter(torch.zeros(1, config.time, config.dim))
        self.reg_token: nn.Parameter | None = None
        if config.registers:
            self.reg_token = nn.Parameter(torch.empty(1, config.registers, config.dim))
        self.patch_embed = PatchEmbed(config)
        self.head_drop = nn.Dropout(config.drop_rate)
        self.head = classifier(config)
        # A block's drop path acts on what the block before it added; the first has nothing to drop.
        step = config.drop_path_rate / max(config.depth - 1, 1)
        rates = [0.0, *(step * block for block in range(config.depth - 1)), config.drop_path_rate]
        self.layers = nn.ModuleList(Block(config, rate, impl) for rate in rates[:-1])
        self.drop_path = DropPath(rates[-1])
        self.norm_f: nn.Module = RMSNorm(config.dim, impl=impl)
        self._impl = impl
        self.reduction = reduction
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if self.reg_token is not None:
            nn.init.trunc_normal_(self.reg_token, std=0.02)

    @property
    def impl(self) -> Impl:
        """Which kernels to use: auto, reference, cpp or triton."""
        return self._impl

    @impl.setter
    def impl(self, impl: Impl) -> None:
        self._impl = impl
        for module in self.modules():
            if isinstance(module, BidirectionalMixer | RMSNorm):
                module.impl = impl

    def embed(self, images: Tensor) -> Tokens:
        """Images ``(b, c, h, w)`` or clips ``(b, c, t, h, w)`` to tokens: patches frame by frame, and learned ones.

        A patch's position is its row in the table of its frame, and of a clip also its frame's in the temporal table.
        Registers have none: they learn what each needs to know of its position.
        """
        config = self.config
        check_images(images, self.cls_token)
        if images.shape[1:] != config.input_size:
            raise UnsupportedInput(
                f"run the model on {'clips' if config.is_video else 'images'}",
                given=f"a tensor of shape {tuple(images.shape)}",
                why=f"this model takes (b, {', '.join(map(str, config.input_size))})",
                fix=f"resize them, or create_model(..., img_size=…{', frames=…' if config.is_video else ''})",
            )
        x = None if self.executor is None else self.executor.embed(self, images)
        if x is None:
            x = self.add_positions(self.patch_embed(images))
        columns = [torch.full((images.shape[0], 1), position, device=images.device) for position in config.protected]
        return Tokens(x=x, residual=None, protected=torch.cat(columns, dim=1))

    def add_positions(self, patches: Tensor) -> Tensor:
        """Patches ``(b, time, grid, d)`` with their positions, among the learned tokens: ``(b, l, d)``."""
        config = self.config
        rows, cls_row = split_tokens(self.pos_embed, (config.cls_row,))
        patches = patches + rows[:, None]
        if self.temporal_pos_embedding is not None:
            patches = patches + self.temporal_pos_embedding[:, :, None]
        learned = self.cls_token + cls_row
        if self.reg_token is not None:
            learned = torch.cat([learned, self.reg_token], dim=1)
        return join_tokens(patches.flatten(1, 2), learned.expand(patches.shape[0], -1, -1), config.protected)

    def reduce_at(self, tokens: Tokens, features: Features | None, step: Step) -> Tokens:
        """The tokens that a block gets: fewer if it is its turn."""
        if not step.r:
            return tokens
        assert self._reduction is not None
        return self._reduction.step(tokens, features, step)

    def read_after(self, step: Step) -> frozenset[str]:
        """The features of a block's tokens that the next block's reduction reads."""
        counts, following = self.schedule.counts, step.block + 1
        return self._needs if following < len(counts) and counts[following] else frozenset()

    def forward_blocks(self, images: Tensor) -> Tokens:
        """The tokens that leave the last block."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            return super().forward_blocks(images)
        tokens, features = self.embed(images), None
        for block, step in zip(self.layers, self.schedule.steps, strict=False):  # blocks may have been cut off
            tokens = self.reduce_at(tokens, features, step)
            features = None  # they have been read; the block's own features need the memory
            tokens, features = block(tokens, self.read_after(step))
        return tokens

    def final_norm(self, tokens: Tokens) -> Tokens:
        """Join the last output to the residual stream and normalise."""
        return tokens.replace(x=self.norm_f(add_residual(tokens, self.drop_path)))

    def pool(self, tokens: Tokens) -> Tensor:
        """What the head reads of normalised tokens: ``(b, d)``, or without pooling ``(b, l, d)`` rows.

        The class token is found wherever it stands in each image.
        """
        if self.config.global_pool == "token":
            batch = torch.arange(tokens.x.shape[0], device=tokens.x.device)
            return tokens.x[batch, tokens.cls_index]
        return mean_patch(tokens) if self.config.global_pool == "avg" else self.rows(tokens)

    def classify(self, tokens: Tokens) -> Tensor:
        """Logits ``(b, classes)`` of the tokens that :meth:`encode` gives."""
        logits: Tensor = self.head(self.head_drop(self.pool(tokens)))
        return logits

    def forward(self, images: Float[Tensor, "b c *time h w"]) -> Float[Tensor, "b *l classes"]:
        """Logits of images ``(b, c, h, w)`` or clips ``(b, c, t, h, w)``; without pooling, one row for each token."""
        if self.executor is not None:
            logits: Tensor | None = self.executor(self, images)
            if logits is not None:
                return logits
        return self.classify(self.final_norm(self.forward_blocks(images)))

    def iter_blocks(self, images: Tensor) -> Iterator[Tokens]:
        """The tokens that leave each block, one after the other."""
        tokens, features = self.embed(images), None
        for block, step in zip(self.layers, self.schedule.steps, strict=False):
            if self.grad_checkpointing and torch.is_grad_enabled():
                tokens, features = checkpoint(self.advance, block, tokens, features, step, use_reentrant=False)
            else:
                tokens, features = self.reduce_at(tokens, features, step), None
                tokens, features = block(tokens, self.read_after(step))
            yield tokens

    def advance(
        self, block: nn.Module, tokens: Tokens, features: Features | None, step: Step
    ) -> tuple[Tokens, Features | None]:
        """One block with the reduction before it, to be computed again in the backward pass."""
        after: tuple[Tokens, Features | None] = block(self.reduce_at(tokens, features, step), self.read_after(step))
        return after


MODEL_METHODS = methods_of(
    VisionMamba, "embed", "add_positions", "forward_blocks", "reduce_at", "read_after", "final_norm", "pool", "classify"
)
