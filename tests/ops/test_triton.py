"""The Triton kernels of the scan and the convolution against the reference.

In Triton's interpreter on any machine, which shows that the arithmetic is right, and on the device itself.
``benchmarks/gpu_check.py`` measures speed.
"""

import importlib.util

import pytest
import torch

from rmeeto.errors import UnsupportedInput
from rmeeto.ops import ScanOperands, causal_conv, selective_scan
from rmeeto.ops.impl import reference
from triton_kernels import assert_within_budget, call_on_device, wide

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
needs_device = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

OPTIONAL = ("skip", "gate", "delta_bias")
SCAN_GRADIENTS = ("u", "delta", "A", "B", "C", *OPTIONAL)
CONV_GRADIENTS = ("x", "weight", "bias")


def scan_operands(batch, length, width, states=16, dtype=torch.float32, absent=()):
    u, delta, gate = torch.randn(3, batch, length, width).to(dtype).unbind()
    B, C = torch.randn(2, batch, length, states).to(dtype).unbind()
    operands = {"u": u, "delta": delta, "A": -4 * torch.rand(width, states), "B": B, "C": C}
    operands |= {"skip": torch.randn(width), "gate": gate, "delta_bias": torch.randn(width) - 1}
    return [None if name in absent else x for name, x in operands.items()]


def check_scan(kernel, operands, softplus=True, reverse=False, **tile):
    args = (ScanOperands(*operands), softplus, reverse)
    out = kernel("selective_scan", *args, **tile)
    truth = reference.selective_scan(*map(wide, args))
    assert_within_budget(out, reference.selective_scan(*args), truth, "out")
    grad = torch.randn(truth.shape).to(out.dtype)
    found = kernel("selective_scan_backward", grad, *args, **tile)
    truths = reference.selective_scan_backward(*map(wide, (grad, *args)))
    plains = reference.selective_scan_backward(grad, *args)
    for name, *three in zip(SCAN_GRADIENTS, found, plains, truths, strict=True):
        assert_within_budget(*three, f"the gradient of {name}")


def check_both(kernel, batch, length, width, states=16, dtype=torch.float32):
    first, second = (scan_operands(batch, length, width, states, dtype) for _ in range(2))
    forward, backward = ScanOperands(*first), ScanOperands(*second)._replace(gate=first[6])

    def one_after_the_other(convert):
        ahead = reference.selective_scan(convert(forward), True, False)
        return ahead + reference.selective_scan(convert(backward), True, True)

    out = kernel("bidirectional_scan", forward, backward)
    assert_within_budget(out, one_after_the_other(lambda x: x), one_after_the_other(wide), "out")


def check_conv(kernel, x, weight, bias, silu=True, reverse=False):
    args = (x, weight, bias, silu, reverse)
    out = kernel("causal_conv", *args)
    truth = reference.causal_conv(*map(wide, args))
    assert_within_budget(out, reference.causal_conv(*args), truth, "out")
    grad = torch.randn(truth.shape).to(out.dtype)
    found = kernel("causal_conv_backward", grad, *args)
    truths = reference.causal_conv_backward(*map(wide, (grad, *args)))
    plains = reference.causal_conv_backward(grad, *args)
    for name, *three in zip(CONV_GRADIENTS, found, plains, truths, strict=True):
        assert_within_budget(*three, f"the gradient of {name}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("length", "width", "states"), [(1, 5, 16), (7, 40, 16), (5, 33, 8)])
def test_both_directions_in_two_launches(kernel, length, width, states, dtype):
    check_both(kernel, 2, length, width, states, dtype)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(2, 1, 5), (1, 7, 40), (1, 33, 7)], ids=str)
def test_scan_matches_the_reference(kernel, shape, reverse):
    check_scan(kernel, scan_operands(*shape), reverse=reverse)


@pytest.mark.parametrize("softplus", [False, True])
@pytest.mark.parametrize("present", ["nothing", *OPTIONAL])
def test_scan_with_one_optional_operand_or_none(kernel, present, softplus):
    operands = scan_operands(1, 5, 6, absent=[name for name in OPTIONAL if name != present])
    if not softplus:
        operands[1] = operands[1].abs()  # a step size as it is must not be negative
    if not softplus and present == "delta_bias":
        operands[-1] = operands[-1].abs()
    check_scan(kernel, operands, softplus=softplus)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scan_of_half_precision_storage(kernel, dtype):
    check_scan(kernel, scan_operands(1, 9, 12, dtype=dtype), reverse=True)


@pytest.mark.parametrize("states", [1, 4, 32])
def test_scan_with_other_numbers_of_states(kernel, states):
    check_scan(kernel, scan_operands(1, 6, 9, states))


def test_scan_reads_slices_where_they_lie(kernel):
    u, delta, A, B, C, skip, gate, bias = scan_operands(2, 6, 10)
    both = torch.cat((u, gate), dim=-1)
    projected = torch.cat((delta, B, C), dim=-1)
    views = (*both.chunk(2, dim=-1), *projected.split((10, 16, 16), dim=-1))
    assert not any(x.is_contiguous() for x in views)
    u, gate, delta, B, C = views
    check_scan(kernel, [u, delta, A, B, C, skip, gate, bias])


def test_scan_takes_any_strides(kernel):
    u, delta, A, B, C, skip, gate, bias = scan_operands(2, 6, 10)
    u, gate, B = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (u, gate, B))
    A = A.t().contiguous().t()
    skip, bias = (torch.stack((x, x), dim=1)[:, 0] for x in (skip, bias))
    delta = delta[:1].expand(2, -1, -1)
    check_scan(kernel, [u, delta, A, B, C, skip, gate, bias])


@pytest.mark.parametrize("steps", [(-20, -17, -14, -12, -9.5), (-1e-3, 0, 19.9, 20.1, 40)], ids=["vanishing", "large"])
def test_scan_of_extreme_step_sizes(kernel, steps):
    """Softplus must keep its relative accuracy where steps vanish and turn linear where they are large."""
    operands = scan_operands(1, 5, 4, absent=["skip", "delta_bias"])
    operands[1] = torch.tensor(steps).view(1, 5, 1).expand(1, 5, 4)
    check_scan(kernel, operands)


@pytest.mark.parametrize("which", ["many", "few", "odd"])
def test_scan_in_every_tile(kernel, which):
    from rmeeto.ops.impl.triton.tile import BACKWARD_TILES, Tile  # plain tuples: they may travel to the interpreter

    tile = BACKWARD_TILES.get(which, Tile(rows=1, lanes=4, chunk=1))
    check_scan(kernel, scan_operands(1, 11, 40 if kernel is call_on_device else 6), tile=tile)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(2, 1, 5), (1, 7, 130), (2, 33, 7), (1, 66, 3)], ids=str)
def test_conv_matches_the_reference(kernel, shape, reverse):
    check_conv(kernel, torch.randn(shape), torch.randn(shape[2], 1, 4), torch.randn(shape[2]), reverse=reverse)


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("taps", [1, 2, 3])
def test_conv_of_other_widths_without_bias(kernel, taps, silu):
    check_conv(kernel, torch.randn(1, 9, 6), torch.randn(6, 1, taps), None, silu=silu)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_conv_of_half_precision_slices(kernel, dtype):
    x = torch.randn(2, 9, 24).to(dtype).chunk(2, dim=-1)[1]
    check_conv(kernel, x, torch.randn(12, 1, 4), torch.randn(12), reverse=True)


def test_no_images_no_work(kernel):
    check_scan(kernel, scan_operands(0, 5, 6))
    check_conv(kernel, torch.randn(0, 5, 6), torch.randn(6, 1, 4), torch.randn(6))


def test_says_why_not(interpreter):
    good = dict(zip(SCAN_GRADIENTS, scan_operands(1, 3, 4), strict=True))
    conv = {"x": torch.zeros(1, 3, 4), "weight": torch.zeros(4, 1, 5)}
    meta = {name: x.to("meta") for name, x in good.items()}
    cases = {
        "float64": {**good, "u": good["u"].double()},
        "power of two": {**good, "A": torch.zeros(4, 12)},
        "where these are: u (meta)": meta,
    }
    assert interpreter("unsupported_reasons", "selective_scan", good) == []
    for reason, tensors in cases.items():
        (found,) = interpreter("unsupported_reasons", "selective_scan", tensors)
        assert reason in found
    (found,) = interpreter("unsupported_reasons", "causal_conv", conv)
    assert "taps, not 5" in found


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_asked_for_by_name_it_does_not_fall_back():
    u, delta, A, B, C, *_ = scan_operands(1, 3, 4)
    with pytest.raises(UnsupportedInput, match="CUDA"):
        selective_scan(u, delta, A, B, C, impl="triton")


def forward_and_gradients(operands, reverse, impl):
    leaves = [x.detach().cuda().requires_grad_() for x in operands]
    u, delta, A, B, C, skip, gate, bias = leaves
    out = selective_scan(
        u, delta, A, B, C, skip=skip, gate=gate, delta_bias=bias, delta_softplus=True, reverse=reverse, impl=impl
    )
    torch.manual_seed(1)
    return out, *torch.autograd.grad(out, leaves, torch.randn(out.shape).to(out))


@pytest.mark.gpu
@needs_device
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 7, 63, 197, 1569])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_device_scan_through_the_public_function(length, reverse, dtype):
    operands = scan_operands(2, length, 200, dtype=dtype)
    found, plains = (forward_and_gradients(operands, reverse, impl) for impl in ("auto", "reference"))
    truths = forward_and_gradients([x.double() for x in operands], reverse, "reference")
    for name, *three in zip(("out", *SCAN_GRADIENTS), found, plains, truths, strict=True):
        assert_within_budget(*three, name)


@pytest.mark.gpu
@needs_device
@pytest.mark.parametrize("width", [768, 8], ids=["many programs", "few programs"])
def test_device_scan_gives_the_same_bits_twice(width):
    operands = scan_operands(32, 65, width, dtype=torch.bfloat16)
    first, second = (forward_and_gradients(operands, False, "triton") for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.gpu
@needs_device
def test_device_kernels_can_be_captured_in_a_graph():
    u, delta, A, B, C, skip, gate, bias = (x.cuda() for x in scan_operands(4, 33, 96, dtype=torch.bfloat16))
    weight = torch.randn(96, 1, 4, device="cuda")

    def block():
        y = causal_conv(u, weight, impl="triton")
        return selective_scan(y, delta, A, B, C, skip=skip, gate=gate, delta_bias=bias, impl="triton")

    with torch.no_grad():
        expected = block()  # compiles
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = block()
        graph.replay()
    assert torch.equal(captured, expected)


@pytest.mark.gpu
@needs_device
def test_device_operations_keep_their_contract_with_torch():
    operands = [x.cuda().requires_grad_() for x in scan_operands(2, 9, 40)]
    torch.library.opcheck(torch.ops.rmeeto.selective_scan.default, (*operands, True, False, "triton"))
    x, weight, bias = (torch.randn(s, device="cuda", requires_grad=True) for s in ((2, 9, 40), (40, 1, 4), (40,)))
    torch.library.opcheck(torch.ops.rmeeto.causal_conv.default, (x, weight, bias, True, True, "triton"))
