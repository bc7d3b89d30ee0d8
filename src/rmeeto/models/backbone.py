"""Vision Mamba, top to bottom: embed → [reduce → mix] × depth → norm → head.

What is unusual:
* the class token stands in the middle of the patches, and reductions move it; its index is part of the tokens;
* the residual stream is float32 whatever the weights are;
* a block returns its features beside its tokens, because the next block may reduce by them;
* a model without a reduction is the teacher: nothing is copied and no branch is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from rmeeto.config import ModelConfig
from rmeeto.cost import stack_of
from rmeeto.errors import UnsupportedInput
from rmeeto.models.layers import PatchEmbed, RMSNorm
from rmeeto.models.mixers import BidirectionalMixer
from rmeeto.ops.select import Impl
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


class Block(nn.Module):
    """Join the residual stream, normalise, mix."""

    def __init__(self, config: ModelConfig, drop_path_rate: float, impl: Impl) -> None:
        super().__init__()
        self.mixer = BidirectionalMixer(config, impl)
        self.norm = RMSNorm(config.dim)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, tokens: Tokens) -> tuple[Tokens, Features]:
        """One block: the tokens with new ``x`` and ``residual``, and the mixer's features."""
        residual = join(tokens, self.drop_path)
        x, features = self.mixer(self.norm(residual))
        return tokens.replace(x=x, residual=residual), features


def join(tokens: Tokens, drop_path: nn.Module) -> Tensor:
    """The residual stream with the last block's output added, in at least float32."""
    x: Tensor = drop_path(tokens.x)
    if tokens.residual is None:
        return x if x.dtype == torch.float64 else x.float()
    return tokens.residual + x


class VisionMamba(nn.Module):
    """A bidirectional Vision Mamba classifier (Vim) with token reduction between its blocks.

    Assign ``model.reduction = TokenMerge(r=11)`` at any time, or None for the unreduced model.
    ``model.schedule`` then says how many tokens every block sees; ``model.impl`` picks the kernels.
    """

    def __init__(self, config: ModelConfig, reduction: Reduction | None = None, *, impl: Impl = "auto") -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.empty(1, config.tokens, config.dim))
        self.patch_embed = PatchEmbed(config)
        self.head = nn.Linear(config.dim, config.num_classes)
        # A block's drop path acts on what the block before it added; the first has nothing to drop.
        step = config.drop_path_rate / max(config.depth - 1, 1)
        rates = [0.0, *(step * block for block in range(config.depth - 1)), config.drop_path_rate]
        self.layers = nn.ModuleList(Block(config, rate, impl) for rate in rates[:-1])
        self.drop_path = DropPath(rates[-1])
        self.norm_f = RMSNorm(config.dim)
        self._impl = impl
        self.reduction = reduction
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @property
    def reduction(self) -> Reduction | None:
        """How tokens are reduced; None leaves the model whole."""
        return self._reduction

    @reduction.setter
    def reduction(self, reduction: Reduction | None) -> None:
        stack = stack_of(self.config)
        self.schedule = stack.whole() if reduction is None else reduction.schedule(stack)
        self._reduction = reduction

    @property
    def impl(self) -> Impl:
        """Which kernels to use: auto, reference, cpp or triton."""
        return self._impl

    @impl.setter
    def impl(self, impl: Impl) -> None:
        self._impl = impl
        for module in self.modules():
            if isinstance(module, BidirectionalMixer):
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
            "input_size": (config.in_chans, *config.img_size),
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

    def no_weight_decay(self) -> set[str]:
        """Parameters that weight decay would harm: embeddings, and the state-space model's A and skip."""
        kept = {"pos_embed", "cls_token"}
        return kept | {n for n, _ in self.named_parameters() if n.rsplit(".", 1)[-1] in STATE_PARAMETERS}

    def embed(self, images: Tensor) -> Tokens:
        """``(b, c, h, w)`` images to tokens, the class token in the middle."""
        config = self.config
        if images.dim() != 4 or images.shape[1:] != (config.in_chans, *config.img_size):
            raise UnsupportedInput(
                "run the model on images",
                given=f"a tensor of shape {tuple(images.shape)}",
                why=f"this model takes (b, {config.in_chans}, {config.img_size[0]}, {config.img_size[1]})",
                fix="resize the images, or create_model(..., img_size=...) for another size",
            )
        patches, middle = self.patch_embed(images), config.cls_index
        cls = self.cls_token.expand(images.shape[0], -1, -1)
        x = torch.cat([patches[:, :middle], cls, patches[:, middle:]], dim=1) + self.pos_embed
        protected = torch.full((images.shape[0], 1), middle, device=images.device)
        return Tokens(x=x, residual=None, protected=protected)

    def advance(
        self, tokens: Tokens, features: Features | None, block: nn.Module, step: Step
    ) -> tuple[Tokens, Features]:
        """One step through the model: remove tokens if it is the block's turn, then run the block."""
        if step.r:
            assert self._reduction is not None
            tokens = self._reduction.step(tokens, features, step)
        return block(tokens)  # type: ignore[no-any-return]

    def forward_features(self, images: Tensor) -> Tokens:
        """The tokens that leave the last block, with ``x`` normalised; sizes and source map included."""
        tokens, features = self.embed(images), None
        for block, step in zip(self.layers, self.schedule.steps, strict=True):
            tokens, features = self.advance(tokens, features, block, step)
        return self.finish(tokens)

    def finish(self, tokens: Tokens) -> Tokens:
        """Join the last output to the residual stream and normalise."""
        return tokens.replace(x=self.norm_f(join(tokens, self.drop_path)))

    def forward_head(self, tokens: Tokens, pre_logits: bool = False) -> Tensor:
        """Logits ``(b, classes)`` from the class token, wherever it stands in each image."""
        batch = torch.arange(tokens.x.shape[0], device=tokens.x.device)
        pooled = tokens.x[batch, tokens.cls_index]
        return pooled if pre_logits else self.head(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(b, classes)`` of ``(b, c, h, w)`` images."""
        return self.forward_head(self.forward_features(images))

    def trace(self, images: Tensor) -> Trace:
        """A forward pass that keeps what each block saw: token counts, class places, sizes, source maps."""
        tokens, features, seen = self.embed(images), None, []
        for block, step in zip(self.layers, self.schedule.steps, strict=True):
            tokens, features = self.advance(tokens, features, block, step)
            seen.append(tokens)
        final = self.finish(tokens)
        return Trace(logits=self.forward_head(final), blocks=tuple(seen), final=final)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one for another number of classes."""
        self.config = self.config.changed(num_classes=num_classes)
        self.head = nn.Linear(self.config.dim, num_classes).to(self.head.weight)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head


STATE_PARAMETERS = {"A_log", "A_b_log", "D", "D_b"}
