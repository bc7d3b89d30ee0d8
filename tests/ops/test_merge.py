import pytest
import torch

from assertions import assert_within_budget
from cpp_kernels import IMPLS, needs_kernels
from rmeeto.errors import UnsupportedInput
from rmeeto.ops import merge_rows
from rmeeto.ops.impl import cpp, reference


def random_plan(batch: int, length: int, removed: int, crowded: bool = False):
    """Positions and shares; `crowded` lets all sources end in one row."""
    order = torch.stack([torch.randperm(length) for _ in range(batch)])
    kept, source = order[:, removed:].contiguous(), order[:, :removed].contiguous()
    target = torch.randint(0, 1 if crowded else length - removed, (batch, removed))
    return kept, source, target, torch.rand(batch, removed) / max(removed, 1)


def merge_one_by_one(values, kept, source, target, share):
    out = torch.stack([image[rows] for image, rows in zip(values, kept, strict=True)])
    for i, (sources, targets) in enumerate(zip(source, target, strict=True)):
        for s, t, w in zip(sources, targets, share[i].to(values.dtype), strict=True):
            out[i, t] = out[i, t] + w * (values[i, s] - values[i, kept[i, t]])
    return out


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("length", "removed"), [(1, 0), (2, 1), (9, 4), (197, 11), (200, 130)])
@pytest.mark.parametrize("crowded", [False, True])
def test_equals_merging_one_by_one(impl, length, removed, crowded):
    values, plan = torch.randn(3, length, 7), random_plan(3, length, removed, crowded)
    merged = merge_rows(values, *plan, impl=impl)
    assert merged.is_contiguous()
    torch.testing.assert_close(merged, merge_one_by_one(values, *plan))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [1, 17, 192])
@pytest.mark.parametrize("crowded", [False, True])
def test_kernels_agree_with_float64(instruction_set, dtype, channels, crowded):
    values, plan = torch.randn(2, 90, channels, dtype=dtype), random_plan(2, 90, 30, crowded)
    actual = cpp.merge_rows(values, *plan)
    truth = reference.merge_rows(values.double(), *plan[:3], plan[3].double())
    assert_within_budget(actual, reference.merge_rows(values, *plan), truth, what="out")
    grad = torch.randn_like(actual)
    actual = cpp.merge_rows_backward(grad, *plan)
    truth = reference.merge_rows_backward(grad.double(), *plan[:3], plan[3].double())
    assert_within_budget(actual, reference.merge_rows_backward(grad, *plan), truth, what="gradient")


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_that_absorb_nothing_keep_their_bits(impl, dtype):
    values, (kept, source, target, share) = torch.randn(2, 80, 9, dtype=dtype), random_plan(2, 80, 9)
    merged = merge_rows(values, kept, source, target, share, impl=impl)
    for i in range(2):
        alone = [row for row in range(71) if row not in target[i]]
        assert torch.equal(merged[i, alone], values[i, kept[i, alone]])


@pytest.mark.parametrize("crowded", [False, True])
def test_gradients_are_autograd_s(crowded):
    values = torch.randn(2, 12, 3, dtype=torch.float64, requires_grad=True)
    kept, source, target, share = random_plan(2, 12, 5, crowded)
    share = share.double()
    grad = torch.randn(2, 7, 3, dtype=torch.float64)
    (ours,) = torch.autograd.grad(merge_rows(values, kept, source, target, share), values, grad)
    (plain,) = torch.autograd.grad(merge_one_by_one(values, kept, source, target, share), values, grad)
    torch.testing.assert_close(ours, plain)
    assert torch.autograd.gradcheck(lambda v: merge_rows(v, kept, source, target, share), values)


@pytest.mark.parametrize("impl", IMPLS)
def test_slices_and_transposes_are_read_where_they_lie(impl):
    plan = random_plan(2, 20, 6)
    for values in (torch.randn(2, 20, 24)[..., 5:14], torch.randn(2, 9, 20).mT, torch.randn(2, 40, 9)[:, ::2]):
        assert torch.equal(merge_rows(values, *plan, impl=impl), merge_rows(values.contiguous(), *plan, impl=impl))
    strided = tuple(torch.stack([x, x], dim=-1)[..., 0] for x in plan)
    values = torch.randn(2, 20, 9)
    assert torch.equal(merge_rows(values, *strided, impl=impl), merge_rows(values, *plan, impl=impl))


@pytest.mark.parametrize("impl", IMPLS)
def test_a_gradient_without_memory_of_its_own(impl):
    """What sum().backward() hands in has strides of zero."""
    values, plan = torch.randn(2, 20, 9, requires_grad=True), random_plan(2, 20, 6)
    merge_rows(values, *plan, impl=impl).sum().backward()
    torch.testing.assert_close(values.grad, reference.merge_rows_backward(torch.ones(2, 14, 9), *plan))


@needs_kernels
def test_results_do_not_depend_on_threads():
    values, plan = torch.randn(3, 300, 40), random_plan(3, 300, 140)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out = cpp.merge_rows(values, *plan)
            results.append((out, cpp.merge_rows_backward(out, *plan)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # from within opcheck
@pytest.mark.parametrize("impl", IMPLS)
def test_opcheck(impl):
    values, plan = torch.randn(2, 9, 6, requires_grad=True), random_plan(2, 9, 3)
    torch.library.opcheck(torch.ops.rmeeto.merge_rows.default, (values, *plan, impl))
    torch.library.opcheck(
        torch.ops.rmeeto.merge_rows_backward.default,
        (torch.randn(2, 6, 6), *plan, impl),
        test_utils=("test_schema", "test_faketensor"),
    )


@needs_kernels
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("position", [-1, 20, 1 << 40])
def test_positions_outside_are_refused_before_anything_is_read(which, position):
    plan = random_plan(2, 20, 6)
    plan[which][1, 3] = position
    with pytest.raises(IndexError, match="outside"):
        merge_rows(torch.randn(2, 20, 9), *plan, impl="cpp")
    with pytest.raises(IndexError, match="outside"):
        cpp.merge_rows_backward(torch.randn(2, 14, 9), *plan)


def test_misfits_are_explained():
    values, (kept, source, target, share) = torch.randn(2, 20, 9), random_plan(2, 20, 6)
    with pytest.raises(UnsupportedInput, match="m \\+ r = 20"):
        merge_rows(values, kept[:, 1:], source, target, share)
    with pytest.raises(UnsupportedInput, match="must be \\(b, m\\)"):
        merge_rows(values, kept[:1], source, target, share)
    with pytest.raises(UnsupportedInput, match="int64"):
        merge_rows(values, kept.int(), source, target, share)
    with pytest.raises(UnsupportedInput, match="floating"):
        merge_rows(values.long(), kept, source, target, share)
