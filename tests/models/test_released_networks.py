"""Vim and VideoMamba with ReleasedMerge compute what the authors' program computes: every golden case."""

import numpy as np
import pytest
import torch

import goldens

CASES = sorted(name for name in goldens.table("index")["cases"] if name.startswith(("vim_", "videomamba_")))
SAMPLE_FOR_FLOAT64 = [
    "vim_tiny_base",
    "vim_tiny_r20",
    "vim_tiny_metric_B",
    "vim_tiny_unordered",
    "vim_tiny_mode_amax",
    "videomamba_tiny_odd",
]


def run(name: str, dtype: torch.dtype):
    case = goldens.table("index")["cases"][name]
    model = goldens.model(case["model"], dtype)
    merging = not name.endswith("_base")
    model.reduction = (
        goldens.released(case["options"], last_merge_rule=name.startswith("vim_"), visualisation="visualize" in name)
        if merging
        else None
    )
    torch.manual_seed(0)  # what the authors' shuffling module does when it is imported
    with torch.no_grad():
        return model.trace(goldens.noise(case["input"], case["input_shape"], dtype)), goldens.arrays(name)


def test_every_case_is_here():
    assert len(CASES) == 44
    assert all((goldens.FOLDER / f"{name}.npz").exists() for name in CASES)


@pytest.mark.parametrize("name", CASES)
def test_float32(name):
    trace, golden = run(name, torch.float32)
    np.testing.assert_allclose(trace.logits, golden["logits"], rtol=0, atol=5e-5)
    assert [tokens.length for tokens in trace.blocks] == golden["tokens_after_block"].tolist()
    if "cls_position_after_block" in golden:
        first = 2 if "visualize" in name else 0  # the visualising forward reports place 0 even before it merges
        assert_class_places(trace.blocks[first:], golden["cls_position_after_block"][first:])
    if "group_of_token" in golden:
        np.testing.assert_array_equal(trace.final.group(), golden["group_of_token"])
    if "size_final" in golden:
        np.testing.assert_allclose(trace.final.sizes(), golden["size_final"], rtol=1e-6)
    if "source" in golden:
        np.testing.assert_array_equal(trace.final.group(), golden["source"].argmax(1))
    assert_same_pairs(trace, golden, protects_place_0="visualize" in name)
    for stream, tokens in (("hidden", "x"), ("residual", "residual")):
        if f"cls_{stream}_after_block" in golden:
            at_class = [getattr(b, tokens)[torch.arange(len(b.x)), b.cls_index] for b in trace.blocks]
            np.testing.assert_allclose(torch.stack(at_class), golden[f"cls_{stream}_after_block"], atol=5e-5)


@pytest.mark.parametrize("name", SAMPLE_FOR_FLOAT64)
def test_float64(name):
    trace, golden = run(name, torch.float64)
    np.testing.assert_allclose(trace.logits, golden["logits_f64"], rtol=0, atol=1e-10)


def assert_class_places(blocks, places):
    assert [tokens.cls_index.unique().tolist() for tokens in blocks] == [[place] for place in places]


def assert_same_pairs(trace, golden, protects_place_0):
    """The authors number candidates and targets among the even and odd tokens, protected token taken out."""
    before = trace.blocks[0]
    for number, tokens in enumerate(trace.blocks):
        if f"src_block{number:02d}" in golden:
            plan, at = tokens.plans[-1], before.cls_index[:, None]
            if protects_place_0:
                at = torch.zeros_like(at)
            source = plan.source - (plan.source > at).long()
            pairs = [source // 2]
            assert (source % 2 == 0).all()
            if plan.target is not None:
                target = plan.kept.gather(1, plan.target)
                target = target - (target > at).long()
                assert (target % 2 == 1).all()
                pairs.append(target // 2)
            expected = [golden[f"{side}_block{number:02d}"] for side in ("src", "dst")][: len(pairs)]
            for ours, theirs in zip(torch.stack(pairs, -1).tolist(), np.stack(expected, -1).tolist(), strict=True):
                assert sorted(ours) == sorted(theirs)
        before = tokens
