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
from torch.utils.checkpoint import checkpoint

from rmeeto.config import ModelConfig
from rmeeto.cost import stack_of
from rmeeto.errors import ConfigError, UnsupportedInput
from rmeeto.models.block import Block, precision
from rmeeto.models.dense import as_map, check_format, chosen_blocks, full_grid
from rmeeto.models.freezing import Freezable, thaw
from rmeeto.models.frozen_network import FrozenNetwork
from rmeeto.models.images import check_images
from rmeeto.models.layers import PatchEmbed, RMSNorm, join_tokens, resize_position_embedding, split_tokens
from rmeeto.models.mixers import BidirectionalMixer
from rmeeto.models.pooling import mean_patch
from rmeeto.models.reducible import Reducible
from rmeeto.models.snapshot import methods_of
from rmeeto.models.timm_description import described
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
    linear = nn.Linear(config.dim, config.num_classes)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear


class VisionMamba(Reducible, Freezable[FrozenNetwork]):
    """A bidirectional Vision Mamba (Vim, VideoMamba) of images or clips with token reduction between its blocks.

    Assign ``model.reduction = TokenMerge(r=11)`` at any time, or None for the unreduced model.
    ``model.schedule`` then says how many tokens every block sees; ``model.impl`` picks the kernels.

    It can be used as a model of timm's: ``forward_features``, ``forward_head``, ``forward_intermediates``,
    ``reset_classifier``, ``set_input_size``, ``set_grad_checkpointing`` … take and give what timm's Transformers do,
    plain tensors with the class token in front. :meth:`encode` and :meth:`classify` are the same steps on
    :class:`Tokens`, which know where each token came from.

    published_cfg: timm's description of the weights that timm built the model for; empty for any other model.
    """

    config: ModelConfig

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
    def in_chans(self) -> int:
        """Channels of the images."""
        return self.config.in_chans

    @property
    def num_features(self) -> int:
        """Width of the features, as timm calls it; ``embed_dim`` and ``head_hidden_size`` are the same here."""
        return self.config.dim

    embed_dim = head_hidden_size = num_features

    @property
    def num_prefix_tokens(self) -> int:
        """How many rows of :meth:`forward_features` are no patches: the class token and the registers, in front."""
        return len(self.config.protected)

    @property
    def global_pool(self) -> str:
        """What the head reads: ``token``, ``avg`` or ``""``, see :class:`ModelConfig`."""
        return self.config.global_pool

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """How images are prepared, in timm's form (``timm.data.resolve_model_data_config`` reads it)."""
        return {**self.published_cfg, **described(self.config)}

    @property
    def default_cfg(self) -> dict[str, Any]:
        """timm's older name for :attr:`pretrained_cfg`."""
        return self.pretrained_cfg

    @property
    def _traits(self) -> dict[str, Any]:
        """What timm writes down of the present size when it exports a model."""
        return {"img_size": self.config.img_size, "fixed_input_size": True, "first_conv": "patch_embed.proj"}

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
        check_images(images, self.cls_token)
        if images.shape[1:] != config.input_size:
            raise UnsupportedInput(
                f"run the model on {'clips' if config.is_video else 'images'}",
                given=f"a tensor of shape {tuple(images.shape)}",
                why=f"this model takes (b, {', '.join(map(str, config.input_size))})",
                fix=f"resize them, or create_model(..., img_size=…{', frames=…' if config.is_video else ''})",
            )
        ready = self.ready(images)
        x = None if ready is None else ready.ends.embed(images)
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
        if dtype not in self.prepared and FrozenNetwork.is_possible(self, dtype):
            self.prepared[dtype] = FrozenNetwork(self, dtype, [method.of(type(self)) for method in MODEL_METHODS])
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

    def encode(self, images: Tensor) -> Tokens:
        """The tokens that leave the last block, with ``x`` normalised; sizes and source map included."""
        return self.finish(self.mixed(images))

    def mixed(self, images: Tensor) -> Tokens:
        """The tokens that leave the last block."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            for tokens in self.walk(images):
                last = tokens
            return last
        tokens, features = self.embed(images), None
        for block, step in zip(self.layers, self.schedule.steps, strict=False):  # blocks may have been cut off
            tokens = self.reduced(tokens, features, step)
            features = None  # nobody reads them any more, and the block's own need the memory
            tokens, features = block(tokens, self.read_after(step))
        return tokens

    def finish(self, tokens: Tokens) -> Tokens:
        """Join the last output to the residual stream and normalise."""
        return tokens.replace(x=self.norm_f(join(tokens, self.drop_path)))

    def pool(self, tokens: Tokens) -> Tensor:
        """What the head reads of normalised tokens: ``(b, d)``, or without pooling ``(b, l, d)`` rows.

        The class token is found wherever it stands in each image.
        """
        if self.config.global_pool == "token":
            batch = torch.arange(tokens.x.shape[0], device=tokens.x.device)
            return tokens.x[batch, tokens.cls_index]
        return mean_patch(tokens) if self.config.global_pool == "avg" else self.rows(tokens)

    def rows(self, tokens: Tokens) -> Tensor:
        """``(b, l, d)`` for all tokens that entered, in timm's order: class token, registers, patches row by row.

        A merged token's value stands at every patch that it absorbed; rows of dropped patches are zero.
        """
        patches, protected = full_grid(tokens, tokens.x, self.config)
        return torch.cat([protected, patches], dim=1)

    def classify(self, tokens: Tokens) -> Tensor:
        """Logits ``(b, classes)`` of the tokens that :meth:`encode` gives."""
        logits: Tensor = self.head(self.head_drop(self.pool(tokens)))
        return logits

    def forward_features(self, images: Tensor) -> Tensor:
        """As timm's: normalised ``(b, l, d)`` rows for all tokens that entered, see :meth:`rows`."""
        return self.rows(self.encode(images))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """As timm's: logits of the rows that :meth:`forward_features` gives, or what the head would read of them.

        With ``global_pool="avg"`` rows of dropped patches count here, as zeros; :meth:`forward` leaves them out.
        """
        if self.config.global_pool == "token":
            x = x[:, 0]
        elif self.config.global_pool == "avg":
            x = x[:, self.num_prefix_tokens :].mean(1)
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(b, classes)`` of images ``(b, c, h, w)`` or clips ``(b, c, t, h, w)``."""
        ready = self.ready(images)
        logits = None if ready is None else ready(self, images)
        if logits is not None:
            return logits
        tokens = self.mixed(images)
        logits = None if ready is None else ready.ends.classify(tokens)
        return self.classify(self.finish(tokens)) if logits is None else logits

    def walk(self, images: Tensor) -> Iterator[Tokens]:
        """The tokens that leave each block, one after the other."""
        tokens, features = self.embed(images), None
        for block, step in zip(self.layers, self.schedule.steps, strict=False):
            if self.grad_checkpointing and torch.is_grad_enabled():
                tokens, features = checkpoint(self.advance, block, tokens, features, step, use_reentrant=False)
            else:
                tokens, features = self.reduced(tokens, features, step), None
                tokens, features = block(tokens, self.read_after(step))
            yield tokens

    def advance(
        self, block: nn.Module, tokens: Tokens, features: Features | None, step: Step
    ) -> tuple[Tokens, Features | None]:
        """One block with the reduction before it, to be computed again in the backward pass."""
        after: tuple[Tokens, Features | None] = block(self.reduced(tokens, features, step), self.read_after(step))
        return after

    def trace(self, images: Tensor) -> Trace:
        """A forward pass that keeps what each block saw: token counts, class places, sizes, source maps."""
        seen = tuple(self.walk(images))
        final = self.finish(seen[-1])
        return Trace(logits=self.classify(final), blocks=seen, final=final)

    def counted(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and how many tokens of each image every block saw, ``(b, depth)`` int64."""
        counts = []
        for tokens in self.walk(images):
            counts.append(tokens.counts())
        return self.classify(self.finish(tokens)), torch.stack(counts, dim=1)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | tuple[int, ...] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        output_dict: bool = False,
    ) -> Any:
        """Maps of the residual stream after chosen blocks, over the full grid however the tokens were reduced.

        The signature is timm's, and so is the meaning. The result is ``(features, maps)``, with the features that
        :meth:`forward_features` gives.

        Args:
            x: images or clips.
            indices: after which blocks; an int is the last so many, None all.
            return_prefix_tokens: pair every map with class token and registers ``(b, 1 + registers, d)``.
            norm: apply the final norm to every map.
            stop_early: leave out the blocks after the last map (``intermediates_only`` always does).
            output_fmt: ``NCHW`` is ``(b, d, h, w)``, of clips ``(b, d, t, h, w)``; ``NLC`` is ``(b, patches, d)``.
            intermediates_only: return the maps alone.
            output_dict: return a dict: ``image_intermediates``, ``image_features``, and with return_prefix_tokens
                ``image_intermediates_prefix``.

        Raises:
            UnknownName: another output format. ConfigError: an index outside the network.
        """
        check_format(output_fmt)
        taken = chosen_blocks(len(self.layers), indices)
        last = max(taken) if stop_early or intermediates_only else len(self.layers) - 1
        maps, prefixes = [], []
        for number, tokens in enumerate(self.walk(x)):
            if number in taken:
                stream = join(tokens, nn.Identity())  # drop path acts later, on the way into the next block
                patches, prefix = full_grid(tokens, self.norm_f(stream) if norm else stream, self.config)
                maps.append(as_map(patches, self.config) if output_fmt == "NCHW" else patches)
                prefixes.append(prefix)
            if number == last:
                break
        if output_dict:
            with_prefix = {"image_intermediates_prefix": prefixes} if return_prefix_tokens else {}
            final = {} if intermediates_only else {"image_features": self.rows(self.finish(tokens))}
            return {"image_intermediates": maps, **with_prefix, **final}
        found: list[Any] = list(zip(maps, prefixes, strict=True)) if return_prefix_tokens else maps
        return found if intermediates_only else (self.rows(self.finish(tokens)), found)

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
        """Replace the head by a fresh one for another number of classes; 0 leaves what is pooled as it is.

        global_pool: also change what the head reads; ``""`` with 0 classes gives the rows of :meth:`forward_features`.

        Raises:
            UnknownName: a pooling that :class:`ModelConfig` does not know.
        """
        self.config = self.config.changed(num_classes=num_classes, global_pool=global_pool)
        self.head = head(self.config).to(self.pos_embed).train(self.training)

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def set_input_size(
        self, img_size: int | tuple[int, int] | None = None, patch_size: int | tuple[int, int] | None = None
    ) -> None:
        """Take images of another size from now on: the position table is resampled, the reduction scheduled anew.

        img_size: height and width in pixels. patch_size: accepted, as timm's models take it, if it is the present one.

        Raises:
            ConfigError: another patch size, an image smaller than a patch, or a reduction that is too much for the
                new number of tokens; the model is left as it was.
        """
        size = self.config.patch_size
        if patch_size not in (None, size, (size, size)):
            raise ConfigError(
                f"set the patch size of a model to {patch_size}",
                given=f"patches of {size} pixels",
                why="the weights of the patch embedding are for one patch size",
                fix="build another model with patch_size=…",
            )
        old, config = self.config, self.config.changed(img_size=img_size)
        if self._reduction is not None:
            self._reduction.schedule(stack_of(config))  # raises what it has to before anything is touched
        thaw(self)
        table = self.pos_embed
        if config.grid != old.grid:
            rows = resize_position_embedding(
                table.detach(),
                old.grid,
                config.grid,
                old_row=old.cls_row,
                new_row=config.cls_row,
                interpolation=config.position_interpolation,
            )
            self.pos_embed = nn.Parameter(rows, requires_grad=table.requires_grad)
        self.config = config
        self.reduction = self._reduction

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """In training, keep only what enters each block and compute the block again in the backward pass."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns by which timm groups parameters into layers, for instance for ``layer_decay``."""
        return {
            "stem": r"^cls_token|pos_embed|temporal_pos_embedding|reg_token|patch_embed",
            "blocks": [(r"^layers\.(\d+)", None), (r"^norm_f", (99999,))],
        }


MODEL_METHODS = methods_of(
    VisionMamba, "embed", "placed", "mixed", "reduced", "read_after", "finish", "pool", "classify"
)
STATE_PARAMETERS = {"A_log", "A_b_log", "D", "D_b"}
