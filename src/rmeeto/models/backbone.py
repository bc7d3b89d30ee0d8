"""Vision Mamba, top to bottom: embed → [reduce → mix] × depth → norm → head.

What is unusual:
* the class token stands in the middle of the patches (Vim) or before them (VideoMamba), registers all over the
  sequence, and reductions move them; their places are part of the tokens;
* a clip differs from an image in its embedding and in nothing else;
* the residual stream is float32 whatever the weights are;
* a block returns its features beside its tokens, because the next block may reduce by them;
* a model without a reduction is the teacher: nothing is copied and no branch is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from rmeeto.config import ModelConfig
from rmeeto.errors import UnknownName, UnsupportedInput
from rmeeto.models.block import Block, precision
from rmeeto.models.dense import as_map, check_format, chosen_blocks, full_grid
from rmeeto.models.freezing import Freezable
from rmeeto.models.frozen_network import FrozenNetwork
from rmeeto.models.layers import PatchEmbed, RMSNorm, join_tokens, split_tokens
from rmeeto.models.linear import Linear
from rmeeto.models.mixers import BidirectionalMixer
from rmeeto.models.reducible import Reducible
from rmeeto.ops.block import unsupported_reason
from rmeeto.ops.select import Impl, infers_on_processor
from rmeeto.reduction import Reduction
from rmeeto.reduction.schedule import Step
from rmeeto.tokens import Features, Tokens


@dataclass(frozen=True)
class Trace:
    """A forward pass and what its blocks saw.

    logits: ``(b, classes)``. blocks: the tokens that each block's mixer saw, after its reduction.
    final: the tokens that left the last block.
    """

    logits: Tensor
    blocks: tuple[Tokens, ...]
    final: Tokens


def join(tokens: Tokens, drop_path: nn.Module) -> Tensor:
    """The residual stream with the last block's output added, in at least float32."""
    x: Tensor = drop_path(tokens.x)
    if tokens.residual is None:
        return x if x.dtype == torch.float64 else x.float()
    return tokens.residual + x


def head(config: ModelConfig) -> nn.Module:
    """A fresh classifier, or none for no classes."""
    if config.num_classes == 0:
        return nn.Identity()
    linear = Linear(config.dim, config.num_classes)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear


class VisionMamba(Reducible, Freezable[FrozenNetwork]):
    """A bidirectional Vision Mamba (Vim, VideoMamba) of images or clips with token reduction between its blocks.

    Assign ``model.reduction = TokenMerge(r=11)`` at any time, or None for the unreduced model.
    ``model.schedule`` then says how many tokens every block sees; ``model.impl`` picks the kernels.
    """

    config: ModelConfig

    def __init__(self, config: ModelConfig, reduction: Reduction | None = None, *, impl: Impl = "auto") -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.empty(1, config.grid[0] * config.grid[1] + 1, config.dim))
        self.temporal_pos_embedding: nn.Parameter | None = None
        if config.is_video:
            self.temporal_pos_embedding = nn.Parameter(torch.zeros(1, config.time, config.dim))
        self.reg_token: nn.Parameter | None = None
        if config.registers:
            self.reg_token = nn.Parameter(torch.empty(1, config.registers, config.dim))
        self.patch_embed = PatchEmbed(config)
        self.head = head(config)
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

    @property
    def num_classes(self) -> int:
        """Width of the logits."""
        return self.config.num_classes

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """How images are prepared, in timm's form (``timm.data.resolve_model_data_config`` reads it)."""
        config = self.config
        return {
            "input_size": config.input_size,
            "mean": config.mean,
            "std": config.std,
            "crop_pct": config.crop_pct,
            "interpolation": config.interpolation,
            "num_classes": config.num_classes,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        }

    @property
    def default_cfg(self) -> dict[str, Any]:
        """timm's older name for :attr:`pretrained_cfg`."""
        return self.pretrained_cfg

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """What :meth:`forward_intermediates` yields after each block, in timm's form."""
        config = self.config
        return [
            {"module": f"layers.{i}", "num_chs": config.dim, "reduction": config.stride} for i in range(config.depth)
        ]

    def no_weight_decay(self) -> set[str]:
        """Parameters that weight decay would harm: embeddings, and the state-space model's A and skip."""
        kept = STATE_PARAMETERS | {"pos_embed", "temporal_pos_embedding", "cls_token", "reg_token"}
        return {name for name, _ in self.named_parameters() if name.rsplit(".", 1)[-1] in kept}

    def embed(self, images: Tensor) -> Tokens:
        """Images ``(b, c, h, w)`` or clips ``(b, c, t, h, w)`` to tokens: patches frame by frame, and learned ones.

        A patch's position is its row in the table of its frame, and of a clip also its frame's in the temporal table.
        Registers have none: they learn what each needs to know of its place.
        """
        config = self.config
        if images.shape[1:] != config.input_size:
            raise UnsupportedInput(
                f"run the model on {'clips' if config.is_video else 'images'}",
                given=f"a tensor of shape {tuple(images.shape)}",
                why=f"this model takes (b, {', '.join(map(str, config.input_size))})",
                fix=f"resize them, or create_model(..., img_size=…{', frames=…' if config.is_video else ''})",
            )
        ready = self.ready(images)
        x = None if ready is None else ready.ends.embed(self, images)
        if x is None:
            x = self.placed(self.patch_embed(images))
        columns = [torch.full((images.shape[0], 1), place, device=images.device) for place in config.protected]
        return Tokens(x=x, residual=None, protected=torch.cat(columns, dim=1))

    def placed(self, patches: Tensor) -> Tensor:
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

    def ready(self, x: Tensor) -> FrozenNetwork | None:
        """What a frozen model computes by in the present precision; None where it goes the ordinary way."""
        if self.prepared is None or not infers_on_processor(x):
            return None
        dtype = precision(self.cls_token)
        if dtype not in self.prepared and unsupported_reason(dtype, self.config.state, self.config.conv_width) is None:
            self.prepared[dtype] = FrozenNetwork(self, dtype)
        return self.prepared.get(dtype)

    def reduced(self, tokens: Tokens, features: Features | None, step: Step) -> Tokens:
        """The tokens that a block gets: fewer if it is its turn."""
        if not step.r:
            return tokens
        assert self._reduction is not None
        return self._reduction.step(tokens, features, step)

    def read_after(self, step: Step) -> frozenset[str]:
        """The features of a block's tokens that the next block's reduction reads."""
        counts, following = self.schedule.counts, step.block + 1
        return self._needs if following < len(counts) and counts[following] else frozenset()

    def forward_features(self, images: Tensor) -> Tokens:
        """The tokens that leave the last block, with ``x`` normalised; sizes and source map included."""
        return self.finish(self.mixed(images))

    def mixed(self, images: Tensor) -> Tokens:
        """The tokens that leave the last block."""
        tokens, features = self.embed(images), None
        for block, step in zip(self.layers, self.schedule.steps, strict=False):  # blocks may have been cut off
            tokens = self.reduced(tokens, features, step)
            features = None  # nobody reads them any more, and the block's own need the memory
            tokens, features = block(tokens, self.read_after(step))
        return tokens

    def finish(self, tokens: Tokens) -> Tokens:
        """Join the last output to the residual stream and normalise."""
        return tokens.replace(x=self.norm_f(join(tokens, self.drop_path)))

    def forward_head(self, tokens: Tokens, pre_logits: bool = False) -> Tensor:
        """Logits ``(b, classes)`` from the class token, wherever it stands in each image."""
        batch = torch.arange(tokens.x.shape[0], device=tokens.x.device)
        pooled = tokens.x[batch, tokens.cls_index]
        return pooled if pre_logits else self.head(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(b, classes)`` of images ``(b, c, h, w)`` or clips ``(b, c, t, h, w)``."""
        ready = self.ready(images)
        logits = None if ready is None else ready(self, images)
        if logits is not None:
            return logits
        tokens = self.mixed(images)
        logits = None if ready is None else ready.ends.classify(self, tokens)
        return self.forward_head(self.finish(tokens)) if logits is None else logits

    def walk(self, images: Tensor) -> Iterator[Tokens]:
        """The tokens that leave each block, one after the other."""
        tokens, features = self.embed(images), None
        for block, step in zip(self.layers, self.schedule.steps, strict=False):
            tokens, features = self.reduced(tokens, features, step), None
            tokens, features = block(tokens, self.read_after(step))
            yield tokens

    def trace(self, images: Tensor) -> Trace:
        """A forward pass that keeps what each block saw: token counts, class places, sizes, source maps."""
        seen = tuple(self.walk(images))
        final = self.finish(seen[-1])
        return Trace(logits=self.forward_head(final), blocks=seen, final=final)

    def counted(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and how many tokens of each image every block saw, ``(b, depth)`` int64."""
        counts = []
        for tokens in self.walk(images):
            counts.append(tokens.counts())
        return self.forward_head(self.finish(tokens)), torch.stack(counts, dim=1)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | tuple[int, ...] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Any] | tuple[Tokens, list[Any]]:
        """Maps of the residual stream after chosen blocks, over the full grid however the tokens were reduced.

        The signature is timm's, and so is the meaning:

        Args:
            x: images or clips.
            indices: after which blocks; an int is the last so many, None all.
            return_prefix_tokens: pair every map with class token and registers ``(b, 1 + registers, d)``.
            norm: apply the final norm to every map.
            stop_early: leave out the blocks after the last map (``intermediates_only`` always does).
            output_fmt: ``NCHW`` is ``(b, d, h, w)``, of clips ``(b, d, t, h, w)``; ``NLC`` is ``(b, patches, d)``.
            intermediates_only: return the maps without the final tokens, as :meth:`forward_features` gives them.

        Raises:
            UnknownName: another output format. ConfigError: a block that there is not.
        """
        check_format(output_fmt)
        taken = chosen_blocks(len(self.layers), indices)
        run = max(taken) + 1 if stop_early or intermediates_only else len(self.layers)
        tokens, features, maps = self.embed(x), None, []
        for number, (block, step) in enumerate(zip(self.layers[:run], self.schedule.steps, strict=False)):
            tokens, features = self.reduced(tokens, features, step), None
            tokens, features = block(tokens, self.read_after(step))
            if number in taken:
                stream = join(tokens, nn.Identity())  # drop path acts later, on the way into the next block
                patches, protected = full_grid(tokens, self.norm_f(stream) if norm else stream, self.config)
                found = as_map(patches, self.config) if output_fmt == "NCHW" else patches
                maps.append((found, protected) if return_prefix_tokens else found)
        return maps if intermediates_only else (self.finish(tokens), maps)

    def prune_intermediate_layers(
        self, indices: int | list[int] | tuple[int, ...] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Cut off what :meth:`forward_intermediates` does not need for these indices; returns them counted from 0.

        The blocks that stay see what they saw before: config and schedule go on describing the whole network.
        """
        taken = chosen_blocks(len(self.layers), indices)
        self.layers = self.layers[: max(taken) + 1]
        if prune_norm:
            self.norm_f = nn.Identity()
        if prune_head:
            self.reset_classifier(0)
        return taken

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by a fresh one for another number of classes; 0 leaves the class token as it is.

        Raises:
            UnknownName: a pooling other than timm's ``token``, the only one there is.
        """
        if global_pool not in (None, "token"):
            raise UnknownName("global pooling of a Vision Mamba", str(global_pool), ("token",))
        self.config = self.config.changed(num_classes=num_classes)
        self.head = head(self.config).to(self.pos_embed)

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head


STATE_PARAMETERS = {"A_log", "A_b_log", "D", "D_b"}
