"""A block of a Vision Mamba: join the residual stream, normalise, mix."""

from __future__ import annotations

from timm.layers.drop import DropPath
from torch import Tensor, nn

from rmeeto.config import ModelConfig
from rmeeto.models.layers import RMSNorm
from rmeeto.models.layers.freezing import Freezable
from rmeeto.models.layers.linear import FORWARD_HOOKS
from rmeeto.models.vim.as_written import BACKWARD_HOOKS, methods_are_as_written, methods_of, replaces_methods
from rmeeto.models.vim.mixers import BidirectionalMixer
from rmeeto.ops.block import mamba_block, why_by_parts
from rmeeto.ops.select import Impl
from rmeeto.reduction.tokens import Features, Tokens

INSIDE = frozenset({"B", "C", "delta", "y"})  # features that `mamba_block` does not return
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
LAYERS = {
    nn.Linear: ("in_proj", "x_proj", "x_proj_b", "dt_proj", "dt_proj_b", "out_proj"),
    nn.Conv1d: ("conv1d", "conv1d_b"),
}


class Block(Freezable):
    """Join the residual stream, normalise, mix: by one operation, or by calling the layers.

    A frozen block's executor does all of it if it can.
    """

    def __init__(self, config: ModelConfig, drop_path_rate: float, impl: Impl) -> None:
        super().__init__()
        self.mixer = BidirectionalMixer(config, impl)
        self.norm = RMSNorm(config.dim, impl=impl)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, tokens: Tokens, needs: frozenset[str] = frozenset()) -> tuple[Tokens, Features | None]:
        """One block: the tokens with new ``x`` and ``residual``, and the mixer's features, at least those needed."""
        executor = self.executor
        if executor is not None:
            done: tuple[Tokens, Features | None] | None = executor(self, tokens, needs)
            if done is not None:
                return done
        if self.why_layers(tokens, needs) is None:
            x, residual = self.mixed_at_once(tokens)
            return tokens.replace(x=x, residual=residual), None
        normed, residual = self.add_residual(tokens)
        x, features = self.mixer(normed, tokens.timing, tokens.token_mask, needs)
        return tokens.replace(x=x, residual=residual), features

    def why_layers(self, tokens: Tokens, needs: frozenset[str]) -> str | None:
        """Why the layers are called one by one; None if `rmeeto.ops.mamba_block` computes the block."""
        if needs & INSIDE:
            return "features from inside the block are read"
        if tokens.timing is not None or tokens.lengths is not None:
            return "the tokens have gaps in time, or empty slots"
        reason = why_by_parts(tokens.x, self.mixer.impl) or what_is_replaced(self)
        return reason or why_by_parts(tokens.x, self.norm.impl) or what_is_hooked(self)

    def mixed_at_once(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """What the operation of a whole block gives: the mixer's output and the residual stream."""
        mixer, norm, x = self.mixer, self.norm, self.drop_path(tokens.x)
        parameters = mixer.block_parameters(norm.weight)
        return mamba_block(x, tokens.residual, parameters, eps=norm.eps, scale=mixer.scale, impl=mixer.impl)

    def add_residual(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """What the mixer sees, and the residual stream with the last block's output added."""
        return self.norm.add_residual(self.drop_path(tokens.x), tokens.residual)


(ADD_RESIDUAL,) = methods_of(Block, "add_residual")
BLOCK_METHODS = (ADD_RESIDUAL, *methods_of(Block, "forward"))


def what_is_replaced(block: Block) -> str | None:
    """Which layer has another type than the block was built with, such as an adapter; None if none has."""
    mixer, norm = block.mixer, block.norm
    for part, original in ((mixer, BidirectionalMixer), (norm, RMSNorm)):
        if type(part) is not original:
            return f"a {type(part).__name__} stands in the place of a {original.__name__}"
    for layer, names in LAYERS.items():
        for name in names:
            if type(getattr(mixer, name)) is not layer:
                return f"{name} is a {type(getattr(mixer, name)).__name__}, not a {layer.__name__}"
    return None


def what_is_hooked(block: Block) -> str | None:
    """Which hook or method would not be called if the layers were not; None if there is none."""
    inner = [module for module in block.modules() if module is not block]
    if any(FORWARD_HOOKS + BACKWARD_HOOKS):
        return "a hook is registered on all modules"
    if any(getattr(module, hooks) for module in inner for hooks in HOOKS):
        return "one of its layers has a hook"
    are_as_written = methods_are_as_written() and ADD_RESIDUAL.of(type(block)).is_as_written()
    if not are_as_written or any(map(replaces_methods, (block, *inner))):
        return "a method of the block or of one of its layers has been replaced"
    return None
