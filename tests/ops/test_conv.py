import pytest
import torch

from assertions import assert_within_budget
from cpp_kernels import needs_kernels
from rmeeto.errors import UnsupportedInput
from rmeeto.ops import causal_conv
from rmeeto.ops.impl import cpp, reference


def in_double(tensors):
    return tuple(x if x is None else x.double() for x in tensors)


def assert_kernels_agree(x, weight, bias, silu=True, reverse=False):
    inputs, options = (x, weight, bias), (silu, reverse)
    truth = reference.causal_conv(*in_double(inputs), *options)
    actual = cpp.causal_conv(*inputs, *options)
    assert actual.is_contiguous()
    assert_within_budget(actual, reference.causal_conv(*inputs, *options), truth, what="out")
    grad = torch.randn_like(actual)
    truths = reference.causal_conv_backward(grad.double(), *in_double(inputs), *options)
    plains = reference.causal_conv_backward(grad, *inputs, *options)
    actuals = cpp.causal_conv_backward(grad, *inputs, *options)
    for name, actual, plain, truth in zip(("x", "weight", "bias"), actuals, plains, truths, strict=True):
        assert_within_budget(actual, plain, truth, what=f"gradient of {name}")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 63, 197, 1569])
def test_every_length(instruction_set, length, reverse):
    assert_kernels_agree(torch.randn(2, length, 20), torch.randn(20, 1, 4), torch.randn(20), reverse=reverse)


@pytest.mark.parametrize("channels", [1, 17, 100, 768])
def test_odd_and_many_channels(instruction_set, channels):
    weight, bias = torch.randn(channels, 1, 4), torch.randn(channels)
    assert_kernels_agree(torch.randn(3, 21, channels), weight, bias)


@needs_kernels
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("width", [2, 3, 4])
def test_widths_and_options(width, with_bias, silu, reverse):
    bias = torch.randn(24) if with_bias else None
    assert_kernels_agree(torch.randn(2, 40, 24), torch.randn(24, 1, width), bias, silu, reverse)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_storage(instruction_set, dtype, reverse):
    x = torch.randn(2, 63, 40).to(dtype)
    assert_kernels_agree(x, torch.randn(40, 1, 4), torch.randn(40), reverse=reverse)


@needs_kernels
def test_slices_are_read_where_they_lie():
    both = torch.randn(2, 33, 48)
    x, _ = both.chunk(2, dim=-1)
    weight, bias = torch.randn(24, 1, 4), torch.randn(24)
    assert_kernels_agree(x, weight, bias)
    assert torch.equal(
        cpp.causal_conv(x, weight, bias, True, True), cpp.causal_conv(x.contiguous(), weight, bias, True, True)
    )
    assert_kernels_agree(torch.randn(2, 24, 33).mT, weight, bias)


@needs_kernels
def test_extremes(instruction_set):
    weight = torch.randn(16, 1, 4)
    x = torch.randn(1, 30, 16) * 1000
    assert_kernels_agree(x, weight, None)
    x[0, 10, 3] = torch.nan
    actual, expected = (impl.causal_conv(x, weight, None, True, False) for impl in (cpp, reference))
    assert torch.equal(actual.isnan(), expected.isnan())


@needs_kernels
def test_results_do_not_depend_on_threads():
    x, grad, weight, bias = torch.randn(3, 50, 300), torch.randn(3, 50, 300), torch.randn(300, 1, 4), torch.randn(300)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out = cpp.causal_conv(x, weight, bias, True, False)
            results.append((out, *cpp.causal_conv_backward(grad, x, weight, bias, True, False)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("width", [1, 4, 6])
def test_reference_is_a_padded_conv1d(width):
    x, conv = torch.randn(2, 9, 5), torch.nn.Conv1d(5, 5, width, groups=5, padding=width - 1)
    expected = torch.nn.functional.silu(conv(x.mT)[..., :9]).mT
    torch.testing.assert_close(reference.causal_conv(x, conv.weight, conv.bias, True, False), expected)
    expected = torch.nn.functional.silu(conv(x.flip(1).mT)[..., :9]).mT.flip(1)
    torch.testing.assert_close(reference.causal_conv(x, conv.weight, conv.bias, True, True), expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_reference_gradients_are_right(reverse):
    leaves = [torch.randn(*shape, dtype=torch.float64).requires_grad_() for shape in ((2, 5, 3), (3, 1, 4), (3,))]
    assert torch.autograd.gradcheck(lambda x, w, b: causal_conv(x, w, b, reverse=reverse, impl="reference"), leaves)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # from within opcheck
@pytest.mark.parametrize("impl", ["reference", pytest.param("cpp", marks=needs_kernels)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_opcheck(impl, with_bias):
    x, weight = torch.randn(2, 5, 6).requires_grad_(), torch.randn(6, 1, 4).requires_grad_()
    bias = torch.randn(6).requires_grad_() if with_bias else None
    torch.library.opcheck(torch.ops.rmeeto.causal_conv.default, (x, weight, bias, True, False, impl))
    detached = (x.detach(), weight.detach(), None if bias is None else bias.detach())
    torch.library.opcheck(
        torch.ops.rmeeto.causal_conv_backward.default,
        (torch.randn(2, 5, 6), *detached, True, False, impl),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_export_keeps_the_operation_whole():
    class Conv(torch.nn.Module):
        def forward(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            return causal_conv(x, weight)

    inputs = (torch.randn(2, 9, 6), torch.randn(6, 1, 4))
    program = torch.export.export(Conv(), inputs)
    assert "rmeeto.causal_conv" in str(program.graph)
    torch.testing.assert_close(program.module()(*inputs), Conv()(*inputs))


def test_misfit_shapes_are_explained():
    with pytest.raises(UnsupportedInput, match=r"weight must be \(e, 1, k\) with e = 6"):
        causal_conv(torch.randn(2, 5, 6), torch.randn(5, 1, 4))
    with pytest.raises(UnsupportedInput, match=r"bias must be \(6,\)"):
        causal_conv(torch.randn(2, 5, 6), torch.randn(6, 1, 4), torch.randn(5))


@needs_kernels
def test_an_explicit_implementation_never_falls_back():
    with pytest.raises(UnsupportedInput, match="2 to 4 taps"):
        causal_conv(torch.randn(2, 5, 6), torch.randn(6, 1, 5), impl="cpp")
