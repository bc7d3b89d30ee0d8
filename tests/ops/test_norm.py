import pytest
import torch
import torch.nn.functional as F

from assertions import assert_within_budget
from cpp_kernels import IMPLS, needs_kernels
from rmeeto.errors import UnsupportedInput
from rmeeto.ops import add_norm
from rmeeto.ops.impl import cpp, reference

EPS = 1e-5


def operands(shape=(2, 67, 40), dtype=torch.float32, first=False):
    x, weight = torch.randn(shape, dtype=dtype), torch.randn(shape[-1])
    residual = None if first else 3 * torch.randn(shape)
    return x, residual, weight


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("first", [False, True])
def test_equals_adding_and_then_normalising(impl, first):
    x, residual, weight = operands(first=first)
    normed, stream = add_norm(x, residual, weight, impl=impl)
    assert normed.is_contiguous()
    assert stream.is_contiguous()
    assert torch.equal(stream, x if first else x + residual)
    torch.testing.assert_close(normed, F.rms_norm(stream, weight.shape, weight, EPS))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 197, 192), (3, 5, 17), (1, 33, 384), (2, 3, 1000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("out", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("first", [False, True])
def test_kernels_agree_with_float64(instruction_set, shape, dtype, out, first):
    x, residual, weight = operands(shape, dtype, first)
    exact = (x.double(), None if first else residual.double(), weight.double())
    found = cpp.add_norm(x, residual, weight, EPS, out)
    plain = reference.add_norm(x, residual, weight, EPS, out)
    truth = reference.add_norm(*exact, EPS, torch.float64)
    assert [t.dtype for t in found] == [out, torch.float32]
    for name, *values in zip(("normed", "stream"), found, plain, truth, strict=True):
        assert_within_budget(*values, what=name)
    grad, grad_stream = torch.randn(shape).to(out), torch.randn(shape)
    found = cpp.add_norm_backward(grad, grad_stream, plain[1], weight, EPS)
    plain_back = reference.add_norm_backward(grad, grad_stream, plain[1], weight, EPS)
    truth = reference.add_norm_backward(grad.double(), grad_stream.double(), plain[1].double(), weight.double(), EPS)
    for name, *values in zip(("dstream", "dweight"), found, plain_back, truth, strict=True):
        assert_within_budget(*values, what=name)


@pytest.mark.parametrize("first", [False, True])
def test_written_gradients_are_autograds(first):
    x, residual, weight = (None if v is None else v.double().requires_grad_() for v in operands((2, 5, 7), first=first))
    given = [v for v in (x, residual, weight) if v is not None]
    assert torch.autograd.gradcheck(lambda *_: add_norm(x, residual, weight), given)


@pytest.mark.parametrize("impl", IMPLS)
def test_both_results_pass_gradients_on(impl):
    x, residual, weight = operands(dtype=torch.bfloat16)
    given = [v.requires_grad_() for v in (x, residual, weight)]
    normed, stream = add_norm(x, residual, weight, dtype=torch.bfloat16, impl=impl)
    (normed.float().square().sum() + (2 * stream).sum()).backward()
    assert [v.grad.dtype for v in given] == [torch.bfloat16, torch.float32, torch.float32]
    expected = [v.detach().double().requires_grad_() for v in given]
    normed, stream = add_norm(*expected)
    (normed.square().sum() + (2 * stream).sum()).backward()
    for ours, truth in zip(given, expected, strict=True):
        torch.testing.assert_close(ours.grad.double(), truth.grad, rtol=2e-2, atol=5e-2)


@pytest.mark.parametrize("impl", IMPLS)
def test_reads_slices_where_they_lie(impl):
    wide, weight = torch.randn(2, 9, 64), torch.randn(16)
    x, residual = wide[:, 1:8, 8:24], wide[:, 2:9, 40:56]
    for ours, plain in zip(
        add_norm(x, residual, weight, impl=impl),
        add_norm(x.contiguous(), residual.contiguous(), weight, impl=impl),
        strict=True,
    ):
        assert torch.equal(ours, plain)


@needs_kernels
def test_threads_do_not_change_a_bit():
    x, residual, weight = operands((3, 197, 48))
    grad = torch.randn_like(x)
    found = []
    for threads in (1, 2, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        found.append(
            (*cpp.add_norm(x, residual, weight, EPS, x.dtype), *cpp.add_norm_backward(grad, x, x, weight, EPS))
        )
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_one_graph_under_compile():
    x, residual, weight = operands((1, 5, 8))
    compiled = torch.compile(add_norm, fullgraph=True, backend="aot_eager")
    for ours, plain in zip(compiled(x, residual, weight), add_norm(x, residual, weight), strict=True):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize(
    "change",
    [
        {"x": torch.randn(5, 8)},
        {"x": torch.ones(1, 5, 8, dtype=torch.int64)},
        {"weight": torch.ones(7)},
        {"residual": torch.randn(1, 4, 8)},
        {"residual": torch.randn(1, 5, 8, dtype=torch.float64)},
    ],
    ids=["rank", "dtype", "weight", "residual's shape", "residual's dtype"],
)
def test_refuses_what_does_not_fit(change):
    x, residual, weight = operands((1, 5, 8))
    with pytest.raises(UnsupportedInput):
        add_norm(**{"x": x, "residual": residual, "weight": weight, **change})
