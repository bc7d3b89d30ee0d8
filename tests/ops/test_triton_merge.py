"""The Triton kernels that merge rows, against the reference in float64."""

import subprocess
import sys

import pytest
import torch

from rmeeto.ops import merge_rows
from rmeeto.ops.impl import reference
from triton_kernels import assert_within_budget, wide

needs_device = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def random_plan(batch, length, removed, crowded=False):
    """Positions and shares; `crowded` lets all sources end in one row."""
    order = torch.stack([torch.randperm(length) for _ in range(batch)])
    kept, source = order[:, removed:].contiguous(), order[:, :removed].contiguous()
    target = torch.randint(0, 1 if crowded else length - removed, (batch, removed))
    return kept, source, target, torch.rand(batch, removed) / max(removed, 1)


def check_merge(kernel, values, plan):
    args = (values, *plan)
    out = kernel("merge_rows", *args)
    assert_within_budget(out, reference.merge_rows(*args), reference.merge_rows(*map(wide, args)), "out")
    check_backward(kernel, torch.randn(out.shape).to(out.dtype), plan)


def check_backward(kernel, grad, plan):
    args = (grad, *plan)
    truth = reference.merge_rows_backward(*map(wide, args))
    assert_within_budget(kernel("merge_rows_backward", *args), reference.merge_rows_backward(*args), truth, "gradient")


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize(
    ("length", "removed", "channels"), [(1, 0, 5), (2, 1, 1), (9, 4, 7), (97, 11, 192), (150, 70, 33), (9, 4, 1030)]
)
def test_merging_equals_the_reference(kernel, length, removed, channels, crowded):
    check_merge(kernel, torch.randn(2, length, channels), random_plan(2, length, removed, crowded))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_storage(kernel, dtype):
    check_merge(kernel, torch.randn(2, 40, 24).to(dtype), random_plan(2, 40, 13))


def test_slices_and_transposes(kernel):
    kept, source, target, share = random_plan(2, 20, 6)
    plan = (*(torch.stack((x, x), dim=2)[..., 0] for x in (kept, source, target)), share.t().contiguous().t())
    assert not any(x.is_contiguous() for x in plan)
    check_merge(kernel, torch.randn(2, 40, 24)[:, ::2, 3:12], plan)
    check_merge(kernel, torch.randn(2, 9, 20).mT, plan)


def test_a_gradient_without_memory_of_its_own(kernel):
    """What sum().backward() hands in has strides of zero."""
    check_backward(kernel, torch.ones(1, 1, 1).expand(2, 14, 9), random_plan(2, 20, 6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_nothing_ends_in_keep_their_bits(kernel, dtype):
    """Also beside a row that takes in infinities, and where a zero has a sign."""
    values = torch.randn(1, 12, 5).to(dtype)
    values[0, 0] = torch.inf
    values[0, 2:4] = -0.0
    kept, source, target = torch.arange(1, 12)[None], torch.tensor([[0]]), torch.tensor([[4]])
    out = kernel("merge_rows", values, kept, source, target, torch.tensor([[0.5]]))
    untouched = [i for i in range(11) if i != 4]
    as_bits = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(out[:, untouched].view(as_bits), values[:, 1:][:, untouched].view(as_bits))
    assert (out[0, 4] == torch.inf).all()


def test_no_images_no_work(kernel):
    check_merge(kernel, torch.randn(0, 9, 4), [x[:0] for x in random_plan(1, 9, 3)])


@pytest.mark.gpu
@needs_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("length", "removed"), [(197, 11), (1569, 700)])
def test_device_merging_through_the_public_function(length, removed, dtype):
    values, plan = torch.randn(4, length, 384).to(dtype), random_plan(4, length, removed)
    results = []
    for _ in range(2):
        leaf = values.cuda().requires_grad_()
        out = merge_rows(leaf, *(x.cuda() for x in plan), impl="triton")
        (out.float() * out.float()).sum().backward()
        results.append((out.detach(), leaf.grad))
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))
    out, grad = (x.cpu() for x in results[0])
    assert_within_budget(
        out, reference.merge_rows(values, *plan), reference.merge_rows(*map(wide, (values, *plan))), "out"
    )
    args = ((2 * out.float()).to(dtype), *plan)
    truth = reference.merge_rows_backward(*map(wide, args))
    assert_within_budget(grad, reference.merge_rows_backward(*args), truth, "gradient")


@pytest.mark.gpu
@needs_device
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # from within opcheck
def test_device_operation_keeps_its_contract_with_torch():
    values, plan = torch.randn(2, 9, 6, device="cuda", requires_grad=True), random_plan(2, 9, 3)
    torch.library.opcheck(torch.ops.rmeeto.merge_rows.default, (values, *(x.cuda() for x in plan), "triton"))


@pytest.mark.gpu
@needs_device
@pytest.mark.parametrize("which", ["kept", "source", "target", "protected"])
def test_device_asserts_that_positions_exist(which):
    """In a process of its own, which cannot use the device afterwards. The interpreter knows no assertions."""
    program = f"""
import torch
from rmeeto.ops import closest_pairs, merge_rows
at = dict(zip(("protected", "kept", "source", "target"), torch.tensor([[[0]], [[0]], [[1]], [[0]]]).cuda()))
at["{which}"] += 3
closest_pairs(torch.randn(1, 3, 4).cuda(), at["protected"], 1, impl="triton")
merge_rows(torch.randn(1, 2, 4).cuda(), at["kept"], at["source"], at["target"], torch.ones(1, 1).cuda(), impl="triton")
torch.cuda.synchronize()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "lies outside" in done.stderr + done.stdout
