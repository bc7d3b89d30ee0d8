"""The Triton kernels that join the residual stream and normalise, against PyTorch in float64."""

import pytest
import torch
from torch.nn.functional import rms_norm

from triton_kernels import assert_within_budget, call_on_device

needs_device = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
EPS = 1e-5


def expected(x, residual, weight, grad_normed, grad_residual, dtype):
    """What plain PyTorch gives with its arithmetic in ``dtype``; normed as stored, unless that is float64."""
    joined = x.to(dtype) if residual is None else residual.to(dtype) + x.to(dtype)
    leaves = [joined.requires_grad_(), weight.to(dtype).requires_grad_()]
    normed = rms_norm(leaves[0], weight.shape, leaves[1], EPS)
    normed.retain_grad()
    grads = torch.autograd.grad(normed, leaves, grad_normed.to(dtype))
    total = grads[0] if grad_residual is None else grads[0] + grad_residual.to(dtype)
    stored = normed if dtype == torch.float64 else normed.to(x.dtype)
    results = (stored.detach(), joined.detach(), total, grads[1] if dtype == torch.float64 else grads[1].to(weight))
    return dict(zip(("normed", "residual", "dresidual", "dweight"), results, strict=True))


def check(kernel, x, residual, weight, with_grad_residual=True):
    grad_normed = torch.randn(x.shape).to(x.dtype)
    grad_residual = torch.randn(x.shape) if with_grad_residual else None
    normed, joined = kernel("add_norm", x, residual, weight, EPS)
    gradients = kernel("add_norm_backward", grad_normed, grad_residual, joined, weight, EPS)
    args = (x, residual, weight, grad_normed, grad_residual)
    plain, truth = expected(*args, torch.float32), expected(*args, torch.float64)
    for name, got in zip(plain, (normed, joined, *gradients), strict=True):
        assert_within_budget(got, plain[name], truth[name], name)
    assert torch.equal(joined, plain["residual"])  # the stream is a sum and nothing else


@pytest.mark.parametrize("first", [False, True], ids=["", "first block"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 19), (2, 33, 192), (1, 5, 1030), (2, 2, 3, 8), (9, 24)], ids=str)
def test_matches_pytorch(kernel, shape, first):
    check(kernel, torch.randn(shape), None if first else torch.randn(shape), torch.randn(shape[-1]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_storage(kernel, dtype):
    check(kernel, torch.randn(2, 9, 40).to(dtype), torch.randn(2, 9, 40), torch.randn(40))
    check(kernel, torch.randn(2, 9, 40).to(dtype), torch.randn(2, 9, 40), torch.randn(40).to(dtype))


def test_nothing_reads_the_stream_after_the_last_norm(kernel):
    check(kernel, torch.randn(2, 9, 40), torch.randn(2, 9, 40), torch.randn(40), with_grad_residual=False)


def test_slices_and_transposes(kernel):
    wide = torch.randn(3, 12, 50)
    check(kernel, wide[..., 3:20], wide[..., 20:37], torch.stack([torch.randn(17)] * 2, dim=1)[:, 0])
    check(kernel, wide[:, ::2, :24], torch.randn(3, 24, 6).mT, torch.randn(24))


def test_small_and_large_streams(kernel):
    """Where eps counts, and where squares are large."""
    for scale in (1e-4, 1e4):
        check(kernel, scale * torch.randn(1, 5, 20), scale * torch.randn(1, 5, 20), torch.randn(20))
    check(kernel, torch.zeros(1, 3, 20), torch.zeros(1, 3, 20), torch.randn(20))


def test_no_images_no_work(kernel):
    check(kernel, torch.randn(0, 5, 8), torch.randn(0, 5, 8), torch.randn(8))


def test_says_why_not(interpreter):
    tensors = {"x": torch.zeros(1, 1, 9000), "weight": torch.zeros(9000)}
    (found,) = interpreter("unsupported_reasons", "add_norm", tensors)
    assert "8192 channels" in found
    assert interpreter("unsupported_reasons", "add_norm", {"x": torch.zeros(1, 2), "weight": torch.zeros(2)}) == []


@pytest.mark.gpu
@needs_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [192, 768, 8192])
def test_device_norm_of_many_rows(width, dtype):
    args = (torch.randn(8, 197, width).to(dtype), torch.randn(8, 197, width), torch.randn(width))
    check(call_on_device, *args)
    first, second = (call_on_device("add_norm_backward", args[0], None, args[1], args[2], EPS) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))
