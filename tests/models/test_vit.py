"""Reduction on timm's Transformers: what it computes, that it can be undone, and what it refuses."""

import copy
import math
import pickle

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import (
    Attention,
    Block,
    DiffAttention,
    ParallelScalingBlock,
    ResPostBlock,
    VisionTransformer,
)
from torch import nn

import rmeeto
from reduction import naive
from rmeeto import TokenMerge, freeze
from rmeeto.errors import ConfigError, UnsupportedInput
from rmeeto.models.layers.linear import is_frozen_layer, packing_dtypes
from rmeeto.models.vit import ReducibleTransformer, reduce, restore
from rmeeto.reduction import METHODS, TokenPrune, parse_reduction

SIZES = {
    "img_size": 16,
    "patch_size": 4,
    "embed_dim": 32,
    "depth": 3,
    "num_heads": 4,
    "num_classes": 5,
    "init_values": 0.5,
}
KINDS = {
    "deit": {},
    "deit3": {"no_embed_class": True},
    "augreg": {"qk_norm": True, "pre_norm": True},
    "dinov2": {"reg_tokens": 4, "no_embed_class": True, "mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU},
    "gap": {"class_token": False, "global_pool": "avg"},
    "gap with registers": {"class_token": False, "reg_tokens": 2, "no_embed_class": True, "global_pool": "avg"},
    "prefix pooled too": {"global_pool": "avg", "pool_include_prefix": True},
    "max": {"global_pool": "max"},
    "avgmax": {"global_pool": "avgmax"},
    "siglip": {"class_token": False, "global_pool": "map"},
    "every token": {"global_pool": ""},
    "beit3": {"scale_attn_norm": True},
}
TOME = TokenMerge(r=4, features="K", blocks="all", order="dropped")


def transformer(**options) -> VisionTransformer:
    torch.manual_seed(1)
    model = VisionTransformer(**SIZES | options).eval()
    shake(model)
    return model


def distilled() -> VisionTransformerDistilled:
    model = VisionTransformerDistilled(**SIZES).eval()
    shake(model)
    return model


@torch.no_grad()
def shake(model: nn.Module) -> None:
    """Fresh weights are so small that attention is uniform and tokens are alike; these are not."""
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)


def images(count=2):
    return torch.randn(count, 3, 16, 16)


@pytest.fixture(params=[*KINDS, "distilled"])
def kind(request):
    return distilled() if request.param == "distilled" else transformer(**KINDS[request.param])


@torch.no_grad()
def test_every_kind_is_reduced_and_restored(kind):
    x, before, attributes = images(), copy.deepcopy(kind.state_dict()), set(vars(kind))
    parts = [(type(part), set(vars(part))) for part in kind.modules()]
    whole, whole_class = kind(x), type(kind)
    model = reduce(kind, "merge:r=3,features=K,blocks=all")
    assert model is kind
    assert isinstance(model, whole_class)
    start = 16 + kind.num_prefix_tokens
    assert model.schedule.tokens == (
        start - 3,
        start - 6,
        start - (9 if start - 6 - kind.num_prefix_tokens >= 6 else 0),
    )
    reduced = model(x)
    assert reduced.shape == whole.shape
    assert reduced.isfinite().all()
    assert not torch.allclose(reduced, whole)
    assert list(model.state_dict()) == list(before)
    model.reduction = None
    assert torch.equal(model(x), whole)
    model.reduction = TokenMerge(r=2)
    assert restore(model) is kind
    assert type(kind) is whole_class
    assert set(vars(kind)) == attributes
    assert [(type(part), set(vars(part))) for part in kind.modules()] == parts
    assert torch.equal(kind(x), whole)
    assert all(torch.equal(value, before[key]) for key, value in kind.state_dict().items())


@torch.no_grad()
def test_a_frozen_one_says_the_same_and_thaws(kind):
    x, model = images(), reduce(kind, "merge:r=3,features=K,blocks=all").eval()
    expected = model(x)
    torch.testing.assert_close(freeze(model)(x), expected, rtol=1e-4, atol=1e-5)
    if torch.float32 in packing_dtypes():
        assert any(is_frozen_layer(part) and part.forward.packed for part in model.modules())
    whole = restore(model)(x)
    assert not any(map(is_frozen_layer, model.modules()))
    model.reset_classifier(0)  # whatever is timm's works on
    assert whole.isfinite().all()


@torch.no_grad()
def test_a_reduction_by_nothing_is_the_identity(kind):
    x = images()
    whole, features = kind(x), kind.forward_features(x)
    reduce(kind, TokenMerge(r=0, blocks="all"))
    torch.testing.assert_close(kind(x), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(kind.forward_features(x), features, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_merging_identical_tokens_changes_nothing(kind):
    """Every patch has a twin beside it. Most twins merge in the first block, and everything counts them twice."""
    if kind.pos_embed is not None:
        kind.pos_embed[:, -16:] = kind.pos_embed[:, -16::2].repeat_interleave(2, dim=1)
    x = images(3)[:, :, :, :8].unflatten(3, (2, 4)).repeat_interleave(2, dim=3).flatten(3)
    whole = kind(x)
    reduce(kind, TokenMerge(r=(6,), blocks="0:1"))
    assert kind.schedule.tokens[-1] == kind.num_prefix_tokens + 10
    torch.testing.assert_close(kind(x), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(kind.forward_features(x), restore(kind).forward_features(x), rtol=1e-4, atol=1e-4)


def loop(model, image, r, features):
    """ToMe, one image, one token at a time, in Python: tokens as lists of rows, sizes as numbers."""
    x = model._pos_embed(model.patch_embed(image[None]))[0]
    sizes, prefix, layouts = [1.0] * len(x), model.num_prefix_tokens, []
    for block in model.blocks:
        attention = block.attn
        heads, width = attention.num_heads, attention.head_dim
        qkv = attention.qkv(block.norm1(x)).reshape(len(x), 3, heads, width)
        rows = []
        for q in qkv[:, 0]:
            mixed = []
            for head in range(heads):
                logits = [
                    float(q[head] @ qkv[key, 1, head]) / math.sqrt(width) + math.log(size)
                    for key, size in enumerate(sizes)
                ]
                weights = torch.tensor(logits).softmax(0)
                mixed.append(sum(weight * qkv[key, 2, head] for key, weight in enumerate(weights)))
            rows.append(torch.cat(mixed))
        x = x + block.ls1(attention.proj(torch.stack(rows)))
        compared = x if features == "X" else qkv[:, "QKV".index(features)].mean(1)
        protected = list(range(prefix))
        pairs, ranked, targets = naive.choose(compared.tolist(), protected, r)
        kept = naive.layout(len(x), protected, pairs, ranked, targets, "dropped")
        values, sizes = naive.combine(x.tolist(), sizes, kept, pairs, "sum")
        layouts.append(kept)
        x = torch.tensor(values)
        x = x + block.ls2(block.mlp(block.norm2(x)))
    return model.norm(x), sizes, layouts


@pytest.mark.parametrize("features", ["X", "Q", "K", "V"])
@pytest.mark.parametrize("prefix", [{}, {"reg_tokens": 2}])
@torch.no_grad()
def test_tome_equals_a_naive_loop(features, prefix):
    x, model = images(), transformer(**prefix)
    expected = [loop(model, image, 4, features) for image in x]
    reduce(model, TokenMerge(r=4, features=features, blocks="all", order="dropped"))
    trace = model.trace(x)
    for number, (rows, sizes, layouts) in enumerate(expected):
        torch.testing.assert_close(trace.final.x[number], rows, rtol=1e-4, atol=1e-4)
        assert trace.final.sizes()[number].tolist() == sizes
        assert [tokens.plans[-1].kept[number].tolist() for tokens in trace.blocks] == layouts
    torch.testing.assert_close(
        trace.logits, model.head(torch.stack([rows[0] for rows, _, _ in expected])), atol=1e-4, rtol=1e-4
    )
    assert torch.equal(trace.logits, model(x))


@torch.no_grad()
def test_attention_counts_a_token_by_its_size():
    """A key of size 3 draws what three equal keys would, in the fused kernel and in timm's explicit attention."""
    from rmeeto.models.vit.attention import attend

    attention = Attention(32, num_heads=4, qkv_bias=True).eval()
    few = torch.randn(2, 5, 32)
    many = torch.cat([few, few[:, 4:], few[:, 4:]], dim=1)
    size = torch.tensor([1.0, 1.0, 1.0, 1.0, 3.0]).expand(2, -1)
    proportional, known = attend(attention, few, size)
    torch.testing.assert_close(proportional, attention(many)[:, :5], rtol=1e-5, atol=1e-5)
    attention.fused_attn = False
    torch.testing.assert_close(proportional, attention(few, attn_mask=size.log()[:, None, None]), rtol=1e-5, atol=1e-5)
    keys = attention.qkv(few)[..., 32:64].unflatten(-1, (4, 8)).mean(2)
    torch.testing.assert_close(known.mean("K"), keys)


def test_attention_stays_on_the_fused_path(monkeypatch):
    calls = []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: (calls.append(k["attn_mask"]), fused(*a, **k))[1]
    )
    model = reduce(transformer(), TOME)
    model(images())
    assert calls[0] is None, "while every size is 1, attention is what it always was"
    assert [mask.shape for mask in calls[1:]] == [(2, 1, 1, 13), (2, 1, 1, 9)]
    calls.clear()
    model.reduction = TokenPrune(r=4, blocks="all")
    model(images())
    assert calls == [None] * 3


@torch.no_grad()
def test_protected_tokens_stay_and_are_alone():
    model = reduce(transformer(reg_tokens=3), "merge:r=5,features=V,blocks=all,order=odd-even")
    trace = model.trace(images())
    assert all(tokens.protected.tolist() == [[0, 1, 2, 3]] * 2 for tokens in trace.blocks)
    assert (trace.final.sizes()[:, :4] == 1).all()
    assert trace.final.sizes().sum(1).tolist() == [20, 20]
    assert trace.blocks[-1].length == model.schedule.tokens[-1]


@pytest.mark.parametrize("options", [{}, {"class_token": False, "global_pool": "map"}])
def test_gradients_reach_every_parameter(options):
    model = reduce(transformer(**options), TOME).train()
    model(images()).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_gradient_checkpointing_changes_no_gradient():
    x, model = images(), reduce(transformer(), TOME).train()
    model(x).square().sum().backward()
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model.set_grad_checkpointing()
    model(x).square().sum().backward()
    for ours, parameter in zip(plain, model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, ours)


@torch.no_grad()
def test_copies_and_pickles_are_models_of_their_own():
    x, model = images(), reduce(transformer(), TOME)
    reduced = model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is type(model)
        assert torch.equal(other(x), reduced)
        other.reduction = None
        other.head.bias.add_(1)
        assert torch.equal(model(x), reduced)
    view = copy.copy(model)
    view.reduction = None
    assert view.head is model.head
    assert torch.equal(model(x), reduced)


@torch.no_grad()
def test_maps_stand_on_the_full_grid():
    x, model = images(), transformer(reg_tokens=1)
    final, whole = model.forward_intermediates(x)
    reduce(model, TokenMerge(r=0, blocks="all"))
    same_final, same = model.forward_intermediates(x)
    torch.testing.assert_close(same_final, final, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(same, whole, rtol=1e-5, atol=1e-5)
    model.reduction = TOME
    trace, (rows, maps) = model.trace(x), model.forward_intermediates(x, [0, 2], norm=True)
    assert [m.shape for m in maps] == [(2, 32, 4, 4)] * 2
    torch.testing.assert_close(rows, model.forward_features(x))
    torch.testing.assert_close(maps[1].flatten(2).transpose(1, 2), rows[:, 2:])
    group = trace.blocks[0].group()
    expected = model.norm(trace.blocks[0].x)[1][group[1]][2:]
    torch.testing.assert_close(maps[0][1].flatten(1).T, expected)
    both = model.forward_intermediates(x, 1, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True)
    assert [part.shape for part in both[0]] == [(2, 16, 32), (2, 2, 32)]
    named = model.forward_intermediates(x, [0], output_dict=True, return_prefix_tokens=True, stop_early=True)
    torch.testing.assert_close(named["image_features"][:, 2:], maps[0].flatten(2).transpose(1, 2))
    assert named["image_intermediates_prefix"][0].shape == (2, 2, 32)


def test_pruned_tokens_leave_holes_in_maps_and_weigh_nothing_in_pooling():
    x, model = images(), reduce(transformer(class_token=False, global_pool="avg"), "prune:r=4,blocks=all")
    with torch.no_grad():
        trace, rows = model.trace(x), model.forward_features(x)
        dropped = trace.final.group() < 0
        assert dropped.sum(1).tolist() == [12, 12]
        assert (rows[dropped] == 0).all()
        torch.testing.assert_close(trace.logits, model.head(model.fc_norm(trace.final.x.mean(1))))


@torch.no_grad()
def test_another_image_size_is_scheduled_anew():
    model = reduce(transformer(), TokenMerge(ratio=0.2, blocks="all"))
    short = model.schedule
    with pytest.raises((UnsupportedInput, AssertionError)):
        model(torch.randn(1, 3, 24, 24))
    model.set_input_size((24, 24))
    assert model.schedule.start == 37
    assert model.schedule.tokens[-1] < 37 - short.counts[-1]
    assert model(torch.randn(1, 3, 24, 24)).shape == (1, 5)
    assert model.pretrained_cfg["input_size"] == (3, 24, 24)
    flexible = reduce(transformer(dynamic_img_size=True), TOME)
    with pytest.raises(UnsupportedInput, match="scheduled for 17 tokens"):
        flexible(torch.randn(1, 3, 24, 24))


def test_what_the_rest_of_the_package_reads():
    model = reduce(transformer(reg_tokens=2), TOME)
    config = model.config
    assert (config.tokens, config.prefix, config.grid, config.input_size) == (19, 3, (4, 4), (3, 16, 16))
    assert (config.dim, config.depth, config.heads, config.head_dim, config.hidden) == (32, 3, 4, 8, 128)
    assert {"mean", "std", "crop_pct", "interpolation"} <= set(model.pretrained_cfg)
    assert "cls_token" in model.no_weight_decay()
    model.reset_classifier(7)
    assert (model.config.num_classes, model.pretrained_cfg["num_classes"]) == (7, 7)
    assert "reduction" not in model.state_dict()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"block_fn": ParallelScalingBlock, "init_values": None}, "plain block"),
        ({"block_fn": ResPostBlock}, "plain block"),
        ({"attn_layer": DiffAttention}, "plain attention"),
        ({"global_pool": "prr"}, "sizes"),
    ],
)
def test_other_networks_are_refused_and_left_alone(options, why):
    model = transformer(**options)
    with pytest.raises(ConfigError, match=why):
        reduce(model, TOME)
    assert type(model) is VisionTransformer


def test_unknown_parts_are_refused_not_skipped():
    model = transformer()
    model.blocks[1].attn.temperature = nn.Linear(1, 1)
    with pytest.raises(ConfigError, match="temperature"):
        reduce(model, TOME)


def test_impossible_reductions_are_refused_and_nothing_changes():
    model = transformer()
    with pytest.raises(ConfigError, match="reads B"):
        reduce(model, TokenMerge(r=4, features="B"))
    assert type(model) is VisionTransformer
    with pytest.raises(ConfigError, match="half of the patches"):
        reduce(model, TokenMerge(r=9, blocks="all"))
    assert type(model) is VisionTransformer
    reduce(model, TOME)
    with pytest.raises(ConfigError):
        model.reduction = TokenMerge(r=4, features="delta")
    assert model.reduction == TOME
    with pytest.raises(ConfigError, match="neither"):
        reduce(nn.Linear(2, 2), TOME)
    with pytest.raises(UnsupportedInput, match="mask"):
        model(images(), attn_mask=torch.zeros(17, 17))


def test_transformer_features_are_refused_on_a_mamba():
    mamba = rmeeto.create_model("vim_tiny", img_size=16, patch_size=4, stride=4, dim=16, depth=3)
    with pytest.raises(ConfigError, match="reads K"):
        reduce(mamba, TOME)
    assert reduce(mamba, "merge:r=2") is mamba
    assert mamba.schedule.counts == (0, 0, 2)
    assert restore(mamba).reduction is None


def test_the_class_is_made_once():
    assert type(reduce(transformer(), TOME)) is type(reduce(transformer(), None))
    assert issubclass(type(reduce(distilled(), TOME)), ReducibleTransformer)
    assert type(reduce(transformer(), None).blocks[0]) is Block


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_reduces_it_or_says_why_not(name):
    """Those that read what only a Mamba knows are refused; the others run forward and backward."""
    model = transformer() if name == "released-vit" else transformer(reg_tokens=1)
    method = parse_reduction(f"{name}:r=3")
    if name == "released" or getattr(method, "needs", frozenset()) - {"X", "Q", "K", "V"}:
        with pytest.raises(ConfigError):
            reduce(model, method)
        assert type(model) is VisionTransformer
        return
    reduce(model, method).train()(images()).square().sum().backward()
    assert model.schedule.tokens[-1] < model.schedule.start
    assert model.patch_embed.proj.weight.grad.isfinite().all()


@torch.no_grad()
def test_half_precision_stays_close(kind):
    x = images()
    exact = reduce(kind, TOME)(x)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = kind(x)
    assert mixed.isfinite().all()
    assert kind.bfloat16()(x.bfloat16()).isfinite().all()
    assert (mixed.float() - exact).abs().mean() < exact.std()
