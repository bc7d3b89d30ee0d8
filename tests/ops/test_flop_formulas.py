"""PyTorch's own counter of operations: what it sees of ours, and what `rmeeto.flops` says."""

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, flop_registry

import small_models
from blocks import EPS, parameters_of, tokens_of
from rmeeto import flops, freeze
from rmeeto.ops import mamba_block
from rmeeto.ops.flop_formulas import SILU
from rmeeto.ops.operands import BlockParameters
from rmeeto.reduction import parse_reduction
from small_models import images_of

BATCH = 2


def counted(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def missing(model):
    """Operations per image that PyTorch does not count: they are element-wise ones of its own."""
    cost = flops(model)
    elementwise = cost.terms["position table"] + cost.terms["final norm"]
    channels = sum(cost.schedule.tokens) * model.config.inner
    halving = channels if model.config.halve else 0
    # the counter hooks on all modules, so convolutions run as layers of PyTorch, with a SiLU behind them
    return elementwise + halving + 2 * SILU * channels


@pytest.mark.parametrize(
    "line", [None, "merge:r=5", "merge:r=5,window=3", "merge:r=5,order=dropped", "merge:r=5,distance=l2", "prune:r=5"]
)
@pytest.mark.parametrize("name", ["vim_tiny", "videomamba_tiny"])
def test_a_model_costs_what_our_own_count_says(name, line):
    model = small_models.model_of(name, reduction=None if line is None else parse_reduction(line))
    images, expected = images_of(model, BATCH), BATCH * (flops(model).total - missing(model))
    assert counted(lambda: model(images)) == expected
    with torch.no_grad():
        assert counted(lambda: model(images)) == expected
        assert counted(lambda: freeze(model)(images)) == expected  # layer by layer while PyTorch counts operations
    assert counted(lambda: model.train()(images)) == expected


def test_clips_that_merge_within_a_frame():
    model = small_models.model_of("videomamba_tiny", frames=4, reduction=parse_reduction("merge:r=8,frames=0"))
    images = images_of(model, BATCH)
    found, expected = counted(lambda: model(images)), BATCH * (flops(model).total - missing(model))
    assert found == pytest.approx(expected, rel=0.02)  # frames lose different numbers of tokens


def test_on_the_meta_device():
    with torch.device("meta"):
        model = small_models.model_of(reduction=parse_reduction("merge:r=5"))
    images = torch.empty(BATCH, *model.config.input_size, device="meta")
    assert counted(lambda: model(images)) == BATCH * (flops(model).total - missing(model))


def test_every_operation_has_a_formula():
    ours = {schema.name for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("rmeeto::")}
    names = {str(packet).replace(".", "::") for packet in flop_registry}
    assert ours
    assert ours <= names


def test_a_block_costs_what_its_parts_cost_and_a_scale():
    x, residual = tokens_of(2, 9, 12)
    leaves = [t.requires_grad_() for t in parameters_of().flat()]
    parts = counted(lambda: mamba_block(x, residual, BlockParameters.of(leaves), eps=EPS, scale=0.5))
    out, *_ = torch.ops.rmeeto.mamba_block(x, residual, *leaves, EPS, 0.5, "reference")
    at_once = counted(lambda: torch.ops.rmeeto.mamba_block(x, residual, *leaves, EPS, 0.5, "reference"))
    assert at_once == parts + x.numel()
    assert 2 < counted(lambda: torch.autograd.grad(out.sum(), leaves)) / at_once < 3.5


def test_gradients_cost_two_to_three_times_as_much():
    """Of our own operations: PyTorch counts the gradient of a convolution in groups as if there were none."""
    model = small_models.model_of(reduction=parse_reduction("merge:r=5")).train()
    with FlopCounterMode(display=False) as counter:
        model(images_of(model, BATCH)).sum().backward()
    counts = {str(packet): count for packet, count in counter.get_flop_counts()["Global"].items()}
    for name in ("bidirectional_scan", "add_norm"):
        assert 2 < counts[f"rmeeto.{name}_backward"] / counts[f"rmeeto.{name}"] < 3.5


def test_the_counter_is_not_imported_for_nothing_and_has_the_formulas_when_it_is():
    code = """
import sys, rmeeto.ops, torch
assert "torch.utils.flop_counter" not in sys.modules
from torch.utils.flop_counter import flop_registry
assert torch.ops.rmeeto.selective_scan in flop_registry
"""
    subprocess.run([sys.executable, "-c", code], check=True)
