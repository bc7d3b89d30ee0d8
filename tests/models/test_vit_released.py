"""DeiT with ReleasedTransformerMerge computes what the authors' program computes: every golden case and merge call."""

from functools import cache, partial

import numpy as np
import pytest
import timm
import torch
from torch import nn

import goldens
import rmeeto
from rmeeto.errors import ConfigError
from rmeeto.models.vit import reduce
from rmeeto.reduction import ReleasedTransformerMerge, parse_reduction
from rmeeto.reduction.protocol import Stack

CASES = sorted(name for name in goldens.table("index")["cases"] if name.startswith("deit_"))
MERGES = goldens.table("merge_function")
TAGS = sorted(tag for tag in MERGES if tag.startswith("vit_"))


@cache
def model(eps: float, dtype: torch.dtype):
    built = timm.create_model("deit_tiny_patch16_224", norm_layer=partial(nn.LayerNorm, eps=eps)).to(dtype)
    built.load_state_dict({key: goldens.array(key, shape) for key, shape in goldens.shapes("deit_tiny").items()})
    return built.eval()


def released(options: dict) -> ReleasedTransformerMerge | None:
    if "num_prune" not in options:
        return None
    return ReleasedTransformerMerge(
        r=options["num_prune"],
        features=options.get("metric", "X"),
        distance=options["distance"],
        ordered=options["if_order"],
        pruned=options["if_prune"],
    )


def run(name: str, dtype: torch.dtype):
    case = goldens.table("index")["cases"][name]
    deit = model(case["options"].get("layernorm_eps", 1e-5), dtype)
    reduce(deit, released(case["options"]))
    with torch.no_grad():
        return deit.trace(goldens.noise(case["input"], case["input_shape"], dtype)), goldens.arrays(name)


def test_every_case_is_here():
    assert len(CASES) == 10
    assert len(TAGS) == 8


@pytest.mark.parametrize("name", CASES)
def test_float32(name):
    trace, golden = run(name, torch.float32)
    np.testing.assert_allclose(trace.logits, golden["logits"], rtol=0, atol=5e-5)
    assert [tokens.length for tokens in trace.blocks] == golden["tokens_after_block"].tolist()
    at_class = torch.stack([tokens.x[:, 0] for tokens in trace.blocks])
    np.testing.assert_allclose(at_class, golden["cls_after_block"], rtol=0, atol=5e-5)
    if "size_final" in golden:
        np.testing.assert_array_equal(trace.final.sizes(), golden["size_final"])
    for number, tokens in enumerate(trace.blocks):
        if f"src_block{number:02d}" in golden:
            plan = tokens.plans[-1]
            pairs = [plan.source // 2]
            assert (plan.source % 2 == 0).all()
            if plan.target is not None:
                pairs.append(plan.kept.gather(1, plan.target) // 2)
            expected = [golden[f"{side}_block{number:02d}"] for side in ("src", "dst")][: len(pairs)]
            for ours, theirs in zip(torch.stack(pairs, -1).tolist(), np.stack(expected, -1).tolist(), strict=True):
                assert sorted(ours) == sorted(theirs)


@pytest.mark.parametrize("name", ["deit_tiny_base_eps1e6", "deit_tiny_r5_K", "deit_tiny_r5_X_prune"])
def test_float64(name):
    trace, golden = run(name, torch.float64)
    np.testing.assert_allclose(trace.logits, golden["logits_f64"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("tag", TAGS)
def test_the_merge_function_alone(tag):
    case, options, arrays = MERGES[tag], MERGES[tag]["options"], goldens.arrays("merge_function")
    x, metric, size = (torch.from_numpy(arrays[name][:, : case["L"]]) for name in ("x", "metric", "size_in"))
    size = torch.ones_like(size[..., 0]) if case["size_in"] == "ones" else size[..., 0].float()
    protected = torch.zeros(2, int(options["class_token"]), dtype=torch.long)
    stack = Stack(1, case["L"], protected.shape[1], first=0, features=frozenset("XQKV"))
    method = released(options)
    plan = method.plan(metric, protected, method.schedule(stack).counts[0])
    close = {"rtol": 0, "atol": 2e-6}
    np.testing.assert_array_equal(plan.source // 2, arrays[f"{tag}.src_idx"][..., : plan.source.shape[1]])
    np.testing.assert_allclose(plan.merge(x, plan.shares(size)), arrays[f"{tag}.x"], **close)
    np.testing.assert_allclose(plan.merge_sizes(size), arrays[f"{tag}.size"][..., 0], **close)


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_keys_and_shapes_are_the_official_ones(size):
    with torch.device("meta"):
        state = reduce(timm.create_model(f"deit_{size}_patch16_224"), "merge:r=8,blocks=all").state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == goldens.shapes(f"deit_{size}")


def test_the_authors_counter():
    with torch.device("meta"):
        deit = reduce(timm.create_model("deit_tiny_patch16_224"), None)
    official = {row["name"]: row for row in goldens.table("flops_and_ratios")["official_rows"]}
    assert rmeeto.flops(deit, convention="paper").total / 1e9 == official["deit_tiny"]["get_flops_G"]


def test_the_program_knows_one_class_token():
    with torch.device("meta"):
        distilled = timm.create_model("deit_tiny_distilled_patch16_224")
    with pytest.raises(ConfigError, match="2 protected tokens"):
        reduce(distilled, ReleasedTransformerMerge(r=5))
    with pytest.raises(ConfigError, match="released-vit"):
        reduce(timm.create_model("deit_tiny_patch16_224", depth=1), "released:r=5")
    assert str(parse_reduction("released-vit:r=5,features=K")) == "released-vit:r=5,features=K"
