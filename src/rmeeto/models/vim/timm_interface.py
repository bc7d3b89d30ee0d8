"""What timm's programs ask of a model: its names, feature rows and maps, heads, sizes and groups of parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rmeeto.config import ModelConfig
from rmeeto.cost import stack_of
from rmeeto.errors import ConfigError
from rmeeto.models.layers import add_residual, resize_position_embedding, split_tokens
from rmeeto.models.layers.freezing import thaw
from rmeeto.models.maps import chosen_blocks, intermediates
from rmeeto.models.reducible import ReducibleModel
from rmeeto.models.vim.timm_description import described
from rmeeto.reduction.tokens import Tokens

STATE_PARAMETERS = {"A_log", "A_b_log", "D", "D_b"}


class TimmInterface(ReducibleModel):
    """Takes and gives what timm's Transformers do: plain tensors, with the class token in front.

    published_cfg: timm's description of the weights that timm built the model for; empty for any other model.
    """

    config: ModelConfig
    published_cfg: dict[str, Any]
    grad_checkpointing: bool
    pos_embed: nn.Parameter
    layers: nn.ModuleList
    norm_f: nn.Module
    head: nn.Module
    head_drop: nn.Module

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
    def _traits(self) -> dict[str, Any]:
        """What timm writes down of the model's size when it exports the model."""
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

    def rows(self, tokens: Tokens) -> Tensor:
        """``(b, l, d)`` for all tokens that entered, in timm's order: class token, registers, patches row by row.

        A merged token's value stands at every patch that it absorbed; rows of dropped patches are zero.
        """
        patches, protected = split_tokens(tokens.unmerge(tokens.x), self.config.protected)
        return torch.cat([protected, patches], dim=1)

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

        def rows(tokens: Tokens) -> Tensor:
            stream = add_residual(tokens, nn.Identity())  # drop path acts later, on the way into the next block
            return self.rows(tokens.replace(x=self.norm_f(stream) if norm else stream))

        return intermediates(
            self.iter_blocks(x),
            len(self.layers),
            (self.config.time, *self.config.grid) if self.config.is_video else self.config.grid,
            rows,
            lambda tokens: self.rows(self.final_norm(tokens)),
            indices,
            return_prefix_tokens=return_prefix_tokens,
            stop_early=stop_early,
            output_fmt=output_fmt,
            intermediates_only=intermediates_only,
            output_dict=output_dict,
        )

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
        self.head = classifier(self.config).to(self.pos_embed).train(self.training)

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


def classifier(config: ModelConfig) -> nn.Module:
    """A fresh classifier, or none for no classes."""
    if config.num_classes == 0:
        return nn.Identity()
    linear = nn.Linear(config.dim, config.num_classes)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear
