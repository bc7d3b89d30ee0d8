"""A timm Transformer block in its two halves, so that tokens can be reduced between attention and MLP."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import Attention, Block  # type: ignore[attr-defined]  # its home in every version

from rmeeto.errors import ConfigError
from rmeeto.models.vit.attention import attend
from rmeeto.reduction.tokens import AttentionFeatures, Tokens

# The parts that the two halves run. A part that a later timm adds is refused, not skipped.
BLOCK_PARTS = {"norm1", "attn", "ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2"}
ATTENTION_PARTS = {"qkv", "q_norm", "k_norm", "attn_drop", "norm", "gate", "proj", "proj_drop"}


def attention_half(block: Any, tokens: Tokens) -> tuple[Tokens, AttentionFeatures]:
    """Normalise, attend, add; and what attention computed about the tokens."""
    mixed, features = attend(block.attn, block.norm1(tokens.x), tokens.size)
    return tokens.replace(x=tokens.x + block.drop_path1(block.ls1(mixed))), features


def mlp_half(block: Any, tokens: Tokens) -> Tokens:
    """Normalise, MLP, add."""
    return tokens.replace(x=tokens.x + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens.x)))))


def check_block(block: Any) -> None:
    """Refuse a block that the two halves would compute otherwise than the block itself.

    Raises:
        ConfigError: another arrangement of norms, attention and MLP, another attention, or unknown parts.
    """
    if type(block).forward is not Block.forward:
        _refuse(block, "only timm's plain block (norm, attention, norm, MLP) has a known place between the two")
    if type(block.attn).forward is not Attention.forward:
        _refuse(block.attn, "only plain attention tells the queries, keys and values that tokens are compared by")
    for module, known in ((block, BLOCK_PARTS), (block.attn, ATTENTION_PARTS)):
        if unknown := sorted(name for name, _ in module.named_children() if name not in known):
            _refuse(module, f"this timm's has parts that rmeeto does not know: {', '.join(unknown)}")


def _refuse(module: object, why: str) -> None:
    raise ConfigError(
        "reduce tokens between attention and MLP",
        given=f"a {type(module).__name__} of {type(module).__module__}",
        why=why,
        fix="use a VisionTransformer of timm's default blocks: ViT, DeiT, DINOv2, CLIP, SigLIP …",
    )
