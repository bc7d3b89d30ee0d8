"""The Triton kernels that join the residual stream and normalise, against the reference in float64."""

import pytest
import torch

from rmeeto.ops import add_norm
from rmeeto.ops.impl import reference
from triton_kernels import assert_within_budget, call_on_device, wide

needs_device = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
EPS = 1e-5


def check(kernel, x, residual, weight, dtype=torch.float32, grad_stream=None):
    given = (x, residual, weight)
    found = kernel("add_norm", *given, EPS, dtype)
    plain, truth = reference.add_norm(*given, EPS, dtype), reference.add_norm(*map(wide, given), EPS, torch.float64)
    for name, *three in zip(("normed", "stream"), found, plain, truth, strict=True):
        assert_within_budget(*three, name)
    assert torch.equal(found[1], plain[1])  # the stream is a sum and nothing else
    grad_stream = torch.randn(x.shape) if grad_stream is None else grad_stream
    back = (torch.randn(x.shape).to(dtype), grad_stream, found[1], weight)
    found, plain = kernel("add_norm_backward", *back, EPS), reference.add_norm_backward(*back, EPS)
    truth = reference.add_norm_backward(*map(wide, back), EPS)
    for name, *three in zip(("dstream", "dweight"), found, plain, truth, strict=True):
        assert_within_budget(*three, name)


@pytest.mark.parametrize("first", [False, True], ids=["", "first block"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 19), (2, 33, 192), (1, 5, 1030), (1, 2, 4100)], ids=str)
def test_matches_the_reference(kernel, shape, first):
    check(kernel, torch.randn(shape), None if first else torch.randn(shape), torch.randn(shape[-1]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_storage(kernel, dtype):
    x, residual, weight = torch.randn(2, 9, 40).to(dtype), torch.randn(2, 9, 40), torch.randn(40)
    check(kernel, x, residual, weight, dtype)
    check(kernel, x, residual, weight.to(dtype), dtype)
    check(kernel, x, residual, weight)  # half blocks, normed for float32 ones
    check(kernel, x.float(), residual, weight, dtype)  # and the other way round


def test_slices_and_transposes(kernel):
    whole = torch.randn(3, 12, 50)
    check(kernel, whole[..., 3:20], whole[..., 20:37], torch.stack([torch.randn(17)] * 2, dim=1)[:, 0])
    check(kernel, whole[:, ::2, :24], torch.randn(3, 24, 6).mT, torch.randn(24))


def test_a_gradient_without_memory_of_its_own(kernel):
    """What sum().backward() hands in has strides of zero."""
    check(kernel, *torch.randn(2, 3, 7, 19).unbind(), torch.randn(19), grad_stream=torch.ones(1, 1, 1).expand(3, 7, 19))


def test_small_and_large_streams(kernel):
    """Where eps counts, and where squares are large."""
    for scale in (0, 1e-4, 1e4):
        check(kernel, *(scale * torch.randn(2, 1, 5, 20)).unbind(), torch.randn(20))


def test_no_images_no_work(kernel):
    check(kernel, torch.randn(0, 5, 8), torch.randn(0, 5, 8), torch.randn(8))


def test_says_why_not(interpreter):
    (found,) = interpreter(
        "unsupported_reasons", "add_norm", {"x": torch.zeros(1, 1, 9000), "weight": torch.zeros(9000)}
    )
    assert "8192 channels" in found
    assert interpreter("unsupported_reasons", "add_norm", {"x": torch.zeros(1, 1, 2), "weight": torch.zeros(2)}) == []


@pytest.mark.gpu
@needs_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [192, 768, 8192])
def test_device_norm_of_many_rows(width, dtype):
    x, residual, weight = torch.randn(8, 197, width).to(dtype), torch.randn(8, 197, width), torch.randn(width)
    check(call_on_device, x, residual, weight, dtype)
    first, second = (call_on_device("add_norm_backward", x, residual, residual, weight, EPS) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.gpu
@needs_device
def test_device_norm_through_the_public_function():
    leaves = [torch.randn(shape, device="cuda").requires_grad_() for shape in ((2, 9, 40), (2, 9, 40), (40,))]
    results = []
    for impl in ("auto", "reference"):
        normed, stream = add_norm(*leaves, impl=impl)
        results.append((normed, stream, *torch.autograd.grad((normed.square() + stream).sum(), leaves)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.gpu
@needs_device
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # from within opcheck
def test_device_operation_keeps_its_contract_with_torch():
    x, residual, weight = (torch.randn(s, device="cuda", requires_grad=True) for s in ((2, 9, 40), (2, 9, 40), (40,)))
    torch.library.opcheck(torch.ops.rmeeto.add_norm.default, (x, residual, weight, EPS, torch.float32, "triton"))
