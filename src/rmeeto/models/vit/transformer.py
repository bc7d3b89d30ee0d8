"""A timm VisionTransformer whose blocks reduce tokens between attention and MLP, and that can be turned back.

:func:`reduce` puts :class:`ReducibleTransformer` in front of the class of one model object, as PyTorch's own
``fully_shard`` and ``parametrize`` do. Its parameters, their names, its buffers and hooks stay where they are: an
optimizer, a checkpoint or another reference to it goes on working, and :func:`restore` has nothing to copy.
What the class overrides runs timm's own layers; without a reduction it runs timm's own methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rmeeto.config import IMAGENET_MEAN, IMAGENET_STD, TransformerConfig
from rmeeto.cost import stack_of
from rmeeto.errors import ConfigError, UnsupportedInput
from rmeeto.models.images import check_images
from rmeeto.models.layers.freezing import thaw
from rmeeto.models.maps import intermediates
from rmeeto.models.reducible import ReducibleModel
from rmeeto.models.vit.block import attention_half, check_block, mlp_half
from rmeeto.models.vit.pool import pool
from rmeeto.models.vit.sizes import published, sizes
from rmeeto.reduction import Reduction, as_reduction
from rmeeto.reduction.plan import take
from rmeeto.reduction.protocol import Step
from rmeeto.reduction.tokens import Tokens

if TYPE_CHECKING:
    from jaxtyping import Float

MASKS = ("attn_mask", "is_causal")
# Of a model that was put together by hand and never published.
UNPUBLISHED = {
    "mean": IMAGENET_MEAN,
    "std": IMAGENET_STD,
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "first_conv": "patch_embed.proj",
    "classifier": "head",
}


class ReducibleTransformer(VisionTransformer, ReducibleModel):
    """A VisionTransformer with token reduction between attention and MLP.

    Assign ``model.reduction = TokenMerge(r=8, features="K", blocks="all")`` at any time, or None for the unreduced
    model. ``model.schedule`` then says how many tokens leave the attention of every block. Class, distillation and
    register tokens are never reduced; from the first merge on, attention counts a token by its size.
    """

    whole_class: ClassVar[type[VisionTransformer]] = VisionTransformer  # what restore gives back
    num_classes: int = 0  # timm sets it on every model

    @property
    def config(self) -> TransformerConfig:  # type: ignore[override]  # read off the layers, so never assigned
        """The model's present sizes."""
        return sizes(self)

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """How images are prepared, in timm's form, for the size that the model has now."""
        described = published(self) or UNPUBLISHED
        return {**described, "input_size": self.config.input_size, "num_classes": self.num_classes}

    def embed(self, images: Tensor) -> Tokens:
        """``(b, c, h, w)`` images to tokens: class, distillation and register tokens, then the patches."""
        check_images(images, self.patch_embed.proj.weight)
        x = self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed(images))))
        if x.shape[1] != self.schedule.start:
            raise UnsupportedInput(
                "run the reduced model on images",
                given=f"a tensor of shape {tuple(images.shape)}, which makes {x.shape[1]} tokens",
                why=f"the reduction was scheduled for {self.schedule.start} tokens",
                fix="use images of the model's size, call set_input_size first, or switch patch dropout off",
            )
        prefix = torch.arange(self.num_prefix_tokens, device=x.device).expand(x.shape[0], -1)
        return Tokens(x=x, residual=None, protected=prefix)

    def advance(self, block: Any, tokens: Tokens, step: Step) -> Tokens:
        """One block: attend, remove tokens if it is the block's turn, then the MLP."""
        tokens, features = attention_half(block, tokens)
        if step.r:
            assert self._reduction is not None
            tokens = self._reduction.step(tokens, features, step)  # type: ignore[arg-type]  # schedule() checked needs
        return mlp_half(block, tokens)

    def iter_blocks(self, images: Tensor) -> Iterator[Tokens]:
        """The tokens that leave each block, one after the other."""
        tokens = self.embed(images)
        for block, step in zip(self.blocks, self.schedule.steps, strict=False):  # timm may have cut blocks off
            if self.grad_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(self.advance, block, tokens, step, use_reentrant=False)
            else:
                tokens = self.advance(block, tokens, step)
            yield tokens

    def final_norm(self, tokens: Tokens) -> Tokens:
        """The tokens that left the last block, with ``x`` normalised."""
        return tokens.replace(x=self.norm(tokens.x))

    def classify(self, tokens: Tokens) -> Tensor:
        """Logits from normalised tokens: timm's head on its class tokens, or on what :func:`pool` gathers."""
        if self.global_pool == "token":
            return self.forward_head(take(tokens.x, tokens.protected))
        if not self.global_pool:
            return self.forward_head(tokens.unmerge(tokens.x))
        logits: Tensor = self.head(self.head_drop(self.fc_norm(pool(self, tokens))))
        return logits

    def forward(  # type: ignore[override]  # newer timm has more masks
        self, x: Float[Tensor, "b c h w"], **masks: Any
    ) -> Float[Tensor, "b *l classes"]:
        """Logits of images; without pooling, one row for each token."""
        if self._reduction is None:
            return super().forward(x, **masks)
        check_unmasked(masks)
        return self.classify(self.encode(x))

    def forward_features(self, x: Tensor, **masks: Any) -> Tensor:  # type: ignore[override]
        """Normalised ``(b, l, d)`` rows for all tokens that entered: copies for merged ones, zeros for dropped ones."""
        if self._reduction is None:
            return super().forward_features(x, **masks)
        check_unmasked(masks)
        tokens = self.encode(x)
        return tokens.unmerge(tokens.x)

    def forward_intermediates(  # type: ignore[override]  # timm's options are passed on by name
        self, x: Tensor, indices: int | list[int] | None = None, *, norm: bool = False, **options: Any
    ) -> Any:
        """As timm's; maps stand on the full grid, with copies for merged tokens and zeros for dropped ones."""
        if self._reduction is None:
            return super().forward_intermediates(x, indices, norm=norm, **options)
        masks = {name: options.pop(name) for name in MASKS if name in options}
        check_unmasked(masks)

        def features(tokens: Tokens) -> Tensor:
            return tokens.unmerge(self.norm(tokens.x))

        blocks, rows = self.iter_blocks(x), features if norm else lambda tokens: tokens.unmerge(tokens.x)
        return intermediates(blocks, len(self.blocks), self.config.grid, rows, features, indices, **options)

    def set_input_size(self, *args: Any, **kwargs: Any) -> None:
        """As timm's; the reduction is scheduled anew for the new number of tokens."""
        super().set_input_size(*args, **kwargs)
        self.reduction = self._reduction

    def __reduce__(self) -> tuple[Any, ...]:
        # the class was made here and has no name that pickle could find
        return _blank, (self.whole_class,), self.__dict__


def check_unmasked(masks: Mapping[str, Any]) -> None:
    """Raise :class:`UnsupportedInput` for masks, which speak of tokens that may have been merged."""
    if any(mask is not None and mask is not False for mask in masks.values()):
        raise UnsupportedInput(
            "run the reduced model under an attention mask",
            why="a mask speaks of the tokens that entered, and the later blocks see fewer",
            fix="leave the mask out, or set model.reduction = None",
        )


@cache
def reducible_class(whole_class: Any) -> type[ReducibleTransformer]:
    """The class of such models once they can be reduced."""
    bases = (ReducibleTransformer, whole_class)
    return type(f"Reducible{whole_class.__name__}", bases, {"whole_class": whole_class})


def _blank(whole_class: Any) -> ReducibleTransformer:
    """An empty object for pickle and deepcopy to fill."""
    reducible = reducible_class(whole_class)
    return reducible.__new__(reducible)


def reduce(model: nn.Module, reduction: Reduction | str | None) -> Any:
    """Reduce the tokens of a model, in place, and return it.

    Args:
        model: one of rmeeto, or any timm ``VisionTransformer`` of plain blocks: ViT, DeiT (distilled too), AugReg,
            DINOv2 with registers, CLIP, SigLIP …. Parameters, their names and their values stay as they are.
        reduction: a value such as ``TokenMerge(r=8)``, its line ``"merge:r=8"``, or None for the whole model.
            ``"tome:r=8"`` is ToMe as its authors do it, block for block; ``TokenMerge(r=8, features="K",
            blocks="all")`` merges as much and keeps the order of the patches.

    Raises:
        ConfigError: a model that cannot be reduced, or not by this. It is left as it was.

    >>> model = reduce(timm.create_model("deit_small_patch16_224"), TokenMerge(r=8, features="K", blocks="all"))
    >>> model.schedule.tokens[-1]
    101
    >>> restore(model)
    """
    reduction = as_reduction(reduction)
    if not isinstance(model, ReducibleModel):
        transformer: Any = plain_transformer(model)
        if reduction is not None:
            reduction.schedule(stack_of(sizes(transformer)))  # raises what it has to before anything is touched
        whole_class: Any = type(transformer)
        transformer.__class__ = reducible_class(whole_class)
    reducible: Any = model
    reducible.reduction = reduction
    return model


def restore(model: nn.Module) -> Any:
    """Undo :func:`reduce`, in place: a timm model is thawed and of its own class again, rmeeto's own is whole."""
    if isinstance(model, ReducibleTransformer):
        del model._reduction, model._needs, model.schedule
        model.__class__ = model.whole_class  # type: ignore[assignment]
        thaw(model)
    elif isinstance(model, ReducibleModel):
        model.reduction = None
    return model


def plain_transformer(model: nn.Module) -> VisionTransformer:
    """The model, if :class:`ReducibleTransformer` would compute what it computes.

    Raises:
        ConfigError: not a VisionTransformer, or one of parts that cannot be reduced.
    """
    if not isinstance(model, VisionTransformer) or type(model).forward is not VisionTransformer.forward:
        raise ConfigError(
            f"reduce the tokens of a {type(model).__name__}",
            why="it is neither a model of rmeeto nor a VisionTransformer of timm",
            fix="build it with rmeeto.create_model or timm.create_model, and reduce the bare model before wrapping it",
        )
    if model.attn_pool is not None and "attn_mask" not in signature(model.attn_pool.forward).parameters:
        raise ConfigError(
            f"reduce a model that pools by {model.global_pool}",
            given=f"a {type(model.attn_pool).__name__}",
            why="it can be told no sizes, so merged tokens would weigh too little",
            fix="use another global_pool",
        )
    for block in model.blocks:
        check_block(block)
    return model
