"""ToMe on timm's Transformers against its paper, one token at a time, in float64."""

import math

import pytest
import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import rmeeto
from rmeeto.errors import ConfigError
from rmeeto.models.vit import reduce
from rmeeto.reduction import ToMe, parse_reduction

SIZES = {"img_size": 20, "patch_size": 4, "embed_dim": 24, "depth": 5, "num_heads": 3, "num_classes": 5}
KINDS = {
    "deit": {},
    "deit3": {"no_embed_class": True, "init_values": 0.5},
    "augreg": {"qk_norm": True},
    "clip": {"pre_norm": True},
    "dinov2": {"init_values": 0.5, "mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU},
    "dinov2 with registers": {"reg_tokens": 4, "no_embed_class": True},
    "two registers": {"reg_tokens": 2, "no_embed_class": True},
    "even": {"img_size": 16},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "siglip": {"class_token": False, "global_pool": "map"},
}


@torch.no_grad()
def transformer(kind, **options) -> VisionTransformer:
    torch.manual_seed(3)
    distilled = kind == "distilled"
    build = VisionTransformerDistilled if distilled else VisionTransformer
    model = build(**{**SIZES, **({} if distilled else KINDS[kind]), **options}).double().eval()
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)  # fresh weights are small: tokens would be nearly alike
    return model


def images_for(model, count=2):
    generator = torch.Generator().manual_seed(4)
    return torch.randn(count, 3, *model.patch_embed.img_size, generator=generator, dtype=torch.float64)


def attend(attention, rows, sizes):
    """Each row after proportional attention, and its key averaged over the heads."""
    heads, width = attention.num_heads, attention.head_dim
    qkv = attention.qkv(rows).reshape(len(rows), 3, heads, width)
    query, key, value = attention.q_norm(qkv[:, 0]), attention.k_norm(qkv[:, 1]), qkv[:, 2]
    mixed = []
    for own in query:
        answer = []
        for head in range(heads):
            logits = [
                float(own[head] @ other[head]) / math.sqrt(width) + math.log(size)
                for other, size in zip(key, sizes, strict=True)
            ]
            total = sum(math.exp(logit) for logit in logits)
            weighted = (math.exp(logit) / total * row[head] for logit, row in zip(logits, value, strict=True))
            answer.append(sum(weighted))
        mixed.append(torch.cat(answer))
    return attention.proj(torch.stack(mixed)), [sum(row) / heads for row in key]


def merge(rows, keys, sizes, prefix, r):
    """ToMe's bipartite matching over the whole sequence; class, distillation and register tokens stay in front."""
    from_set = [place for place in range(0, len(rows), 2) if place >= prefix]
    to_set = [place for place in range(1, len(rows), 2) if place >= prefix]
    best = {}
    for place in from_set:
        likeness = {
            other: float(keys[place] @ keys[other] / keys[place].norm() / keys[other].norm()) for other in to_set
        }
        best[place] = max(likeness.items(), key=lambda entry: entry[1])
    order = sorted(from_set, key=lambda place: -best[place][1])
    gone, left = order[:r], order[r:]
    survivors = [*range(prefix), *(sorted(left) if prefix else left), *to_set]
    new_rows, new_sizes = [], []
    for place in survivors:
        group = [place, *(source for source in gone if best[source][0] == place)]
        total = sum(sizes[member] for member in group)
        new_rows.append(sum(rows[member] * sizes[member] for member in group) / total)
        new_sizes.append(total)
    return torch.stack(new_rows), new_sizes


def tome(model, image, r):
    """Rows and sizes after every block."""
    rows = model.norm_pre(model._pos_embed(model.patch_embed(image[None])))[0]
    sizes, prefix, seen = [1.0] * len(rows), model.num_prefix_tokens, []
    for block in model.blocks:
        mixed, keys = attend(block.attn, block.norm1(rows), sizes)
        rows = rows + block.ls1(mixed)
        count = min(r, (len(rows) - prefix) // 2)
        if count:
            rows, sizes = merge(rows, keys, sizes, prefix, count)
        rows = rows + block.ls2(block.mlp(block.norm2(rows)))
        seen.append((rows, sizes))
    return seen


@pytest.mark.parametrize("kind", [*KINDS, "distilled"])
@torch.no_grad()
def test_it_equals_the_paper_after_every_block(kind):
    model = transformer(kind)
    images = images_for(model)
    expected = [tome(model, image, 4) for image in images]
    reduce(model, "tome:r=4")
    trace = model.trace(images)
    for number, blocks in enumerate(expected):
        for ours, (rows, sizes) in zip(trace.blocks, blocks, strict=True):
            torch.testing.assert_close(ours.x[number], rows, rtol=0, atol=1e-9)
            assert ours.sizes()[number].tolist() == sizes
    assert torch.equal(trace.logits, model(images))


@torch.no_grad()
def test_neither_merge_nor_its_other_orders_are_tome():
    model = transformer("deit")
    images = images_for(model)
    logits = {}
    for line in ("tome:r=4", *(f"merge:r=4,features=K,blocks=all,order={order}" for order in ("kept", "odd-even"))):
        logits[line] = reduce(model, line)(images)
    first, *others = logits.values()
    assert all((first - other).abs().max() > 1e-3 for other in others)


@torch.no_grad()
def test_a_clip_model_and_a_class_token_in_the_middle_keep_their_fixed_tokens():
    for name in ("vim_tiny", "videomamba_tiny"):
        model = rmeeto.create_model(
            name, img_size=64, dim=16, depth=4, registers=2, reduction="tome:r=3,features=X,blocks=1:"
        )
        trace = model.trace(torch.randn(2, 3, 64, 64))
        final = trace.final
        assert final.length == 16 + 3 - 9
        assert final.sizes().gather(1, final.protected).eq(1).all()
        assert final.sizes().sum(1).tolist() == [19, 19]


def test_it_reads_back_from_its_line_and_needs_keys():
    method = parse_reduction("tome:r=8")
    assert method == ToMe(r=8)
    assert str(method) == "tome:r=8"
    assert (method.blocks, method.needs) == ("all", frozenset({"K"}))
    with pytest.raises(ConfigError, match="reads K"):
        rmeeto.create_model("vim_tiny", reduction=ToMe(r=8, blocks="1:"))


@torch.no_grad()
def test_half_of_the_patches_can_leave_each_block_until_one_is_left():
    for kind in ("deit", "two registers", "no class token"):
        model = transformer(kind)
        patches, prefix = 25, model.num_prefix_tokens
        reduce(model, ToMe(r=patches // 2))
        tokens = model.trace(images_for(model)).blocks
        expected, left = [], patches
        for _ in tokens:
            left -= min(patches // 2, left // 2)
            expected.append(prefix + left)
        assert [block.length for block in tokens] == expected


def test_gradients_flow_through_it():
    model = reduce(transformer("distilled"), "tome:r=4").train()
    model(images_for(model)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
