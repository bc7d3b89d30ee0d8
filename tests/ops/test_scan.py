import multiprocessing
import subprocess
import sys
import warnings

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from assertions import assert_within_budget
from cpp_kernels import needs_kernels
from goldens import arrays
from rmeeto.errors import UnknownName, UnsupportedInput
from rmeeto.ops import ScanOperands, select, selective_scan
from rmeeto.ops.impl import cpp, reference

NAMES = ScanOperands._fields
GRADIENTS = NAMES


def operands(batch, length, channels, states=16, *, dtype=torch.float32, without=(), softplus=True):
    """Draw operands of the sizes that they have in a model; steps are positive when no softplus makes them so."""
    delta = torch.randn(batch, length, channels)
    drawn = {
        "u": torch.randn(batch, length, channels).to(dtype),
        "delta": (delta if softplus else delta.abs() / 10).to(dtype),
        "A": -torch.rand(channels, states) * 16,
        "B": torch.randn(batch, length, states).to(dtype),
        "C": torch.randn(batch, length, states).to(dtype),
        "skip": torch.randn(channels),
        "gate": torch.randn(batch, length, channels).to(dtype),
        "delta_bias": torch.randn(channels) - 3,
    }
    return ScanOperands(*(None if name in without else drawn[name] for name in NAMES))


def in_double(tensors):
    return ScanOperands(*(x if x is None else x.double() for x in tensors))


def assert_kernels_agree(inputs, softplus=True, reverse=False, *, gradients=True, slack=8.0):
    inputs = ScanOperands(*inputs)
    truth = reference.selective_scan(in_double(inputs), softplus, reverse)
    plain = reference.selective_scan(inputs, softplus, reverse)
    actual = cpp.selective_scan(inputs, softplus, reverse)
    assert actual.is_contiguous()
    assert_within_budget(actual, plain, truth, what="out", slack=slack)
    if not gradients:
        return
    grad = torch.randn_like(plain)
    truths = reference.selective_scan_backward(grad.double(), in_double(inputs), softplus, reverse)
    plains = reference.selective_scan_backward(grad, inputs, softplus, reverse)
    actuals = cpp.selective_scan_backward(grad, inputs, softplus, reverse)
    for name, actual, plain, truth in zip(GRADIENTS, actuals, plains, truths, strict=True):
        assert actual.is_contiguous()
        assert_within_budget(actual, plain, truth, what=f"gradient of {name}", slack=slack)


# ---- the kernels against the reference in float64


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 7, 63, 197])
def test_every_length(instruction_set, length, reverse):
    assert_kernels_agree(operands(2, length, 48), reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_long_sequences_are_walked_in_chunks(instruction_set, reverse):
    assert_kernels_agree(operands(1, 1569, 16), reverse=reverse)


@pytest.mark.parametrize("channels", [1, 17, 100])
def test_odd_channel_counts(instruction_set, channels):
    assert_kernels_agree(operands(3, 21, channels))


@pytest.mark.parametrize("channels", [768])
def test_several_groups_of_channels(instruction_set, channels):
    assert_kernels_agree(operands(3, 9, channels))


@needs_kernels
@pytest.mark.parametrize("softplus", [False, True])
@pytest.mark.parametrize(
    "without", [(), ("skip",), ("gate",), ("delta_bias",), ("skip", "gate", "delta_bias")], ids="-".join
)
def test_optional_operands(without, softplus):
    inputs = operands(2, 30, 20, without=without, softplus=softplus)
    if not softplus and "delta_bias" not in without:
        inputs = inputs._replace(delta_bias=inputs.delta_bias.abs() / 10)
    assert_kernels_agree(inputs, softplus)
    absent = [x is None for x in inputs]
    gradients = cpp.selective_scan_backward(torch.randn(2, 30, 20), inputs, softplus, False)
    assert [tuple(g.shape) == (0,) for g in gradients] == absent


@pytest.mark.parametrize("states", [1, 5, 16])
def test_fewer_states(instruction_set, states):
    assert_kernels_agree(operands(2, 19, 33, states))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_storage(instruction_set, dtype, reverse):
    assert_kernels_agree(operands(2, 63, 40, dtype=dtype), reverse=reverse)


@needs_kernels
@pytest.mark.parametrize("length", [64, 1024])
@pytest.mark.parametrize("gated", [False, True])
def test_nothing_on_the_way_to_the_gradient_of_a_is_kept_in_half_precision(length, gated):
    """Its error is that of a float32 sum over the tokens, some 1e-6 of the largest, and not bfloat16's 4e-3."""
    u, delta, A, B, C, skip, gate, bias = operands(2, length, 20, dtype=torch.bfloat16)
    inputs, grad = ScanOperands(u, delta, A, B, C, skip, gate if gated else None, bias), torch.randn_like(u)
    _, _, found, *_ = cpp.selective_scan_backward(grad, inputs, True, False)
    _, _, truth, *_ = reference.selective_scan_backward(grad.double(), in_double(inputs), True, False)
    assert (found - truth).abs().max() < 3e-6 * truth.abs().max()


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_slices_are_read_where_they_lie(dtype):
    u, delta, A, B, C, skip, gate, bias = operands(2, 33, 24, dtype=dtype)
    halves = torch.cat((u, gate), dim=-1)
    projected = torch.cat((torch.randn(2, 33, 6).to(dtype), B, C), dim=-1)
    u_view, gate_view = halves.chunk(2, dim=-1)
    _, B_view, C_view = projected.split((6, 16, 16), dim=-1)
    delta_view = delta.transpose(0, 1).contiguous().transpose(0, 1)
    packed = ScanOperands(u, delta, A, B, C, skip, gate, bias)
    views = ScanOperands(u_view, delta_view, A, B_view, C_view, skip, gate_view, bias)
    assert not any(x.is_contiguous() for x in (u_view, delta_view, B_view, C_view, gate_view))
    for reverse in (False, True):
        assert_kernels_agree(views, reverse=reverse)
        assert torch.equal(cpp.selective_scan(views, True, reverse), cpp.selective_scan(packed, True, reverse))


@needs_kernels
def test_channels_that_are_not_neighbours():
    inputs = operands(2, 12, 20)
    scattered = ScanOperands(*(x if x is None or x.ndim < 2 else x.mT.contiguous().mT for x in inputs))
    assert_kernels_agree(scattered)
    grad = torch.randn(2, 20, 12).mT
    for a, b in zip(
        cpp.selective_scan_backward(grad, scattered, True, False),
        cpp.selective_scan_backward(grad.contiguous(), inputs, True, False),
        strict=True,
    ):
        assert torch.equal(a, b)


@needs_kernels
def test_expanded_gradient():
    u, delta, A, B, C, *_ = operands(2, 12, 20)
    leaf = u.requires_grad_()
    selective_scan(leaf, delta.abs(), A, B, C, impl="cpp").sum().backward()
    assert leaf.grad.isfinite().all()


# ---- extremes


def test_huge_steps_and_rates(instruction_set):
    u, delta, A, B, C, skip, gate, bias = operands(2, 25, 33)
    assert_kernels_agree((u, delta * 100, A * 100, B, C, skip, gate * 50, bias), slack=32)


@pytest.mark.parametrize("step", [1e4, 1e20, 1e30])
def test_what_decays_within_a_step_is_gone(instruction_set, step):
    """However long the step that multiplies it, the gradient of A is 0, not the smallest decay times that step."""
    u, delta, A, B, C, *_ = operands(1, 9, 17)
    inputs = ScanOperands(u, torch.full_like(delta, step), A - 1, B, C)
    _, _, dA, *_ = cpp.selective_scan_backward(torch.randn_like(u), inputs, False, False)
    assert torch.equal(dA, torch.zeros_like(dA))


def test_growing_states(instruction_set):
    u, delta, A, B, C, *rest = operands(2, 25, 33, softplus=False)
    assert_kernels_agree((u, delta, -A / 4, B, C, *rest), softplus=False, slack=32)


@pytest.mark.parametrize("operand", ["u", "delta", "A", "B", "C", "skip", "gate", "delta_bias"])
def test_nan_comes_out_as_nan(instruction_set, operand):
    inputs = operands(1, 20, 16)
    spoilt = NAMES.index(operand)
    where = (0, 11, 3) if inputs[spoilt].ndim == 3 else (3,) if inputs[spoilt].ndim == 1 else (3, 2)
    inputs[spoilt][where] = torch.nan
    actual = cpp.selective_scan(inputs, True, False)
    expected = reference.selective_scan(inputs, True, False)
    assert torch.equal(actual.isnan(), expected.isnan())


def test_softplus_keeps_small_steps(instruction_set):
    """log(1 + exp(x)) for very negative x is exp(x), and must not drown in the 1."""
    u, delta, A, B, C, *_ = operands(1, 8, 16)
    assert_kernels_agree((u, delta - 14, A, B, C, None, None, None), slack=16)


# ---- threads


@needs_kernels
def test_results_do_not_depend_on_threads():
    inputs = operands(3, 300, 200)
    grad = torch.randn(3, 300, 200)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = cpp.selective_scan(inputs, True, False)
            results.append((out, *cpp.selective_scan_backward(grad, inputs, True, False)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def _scan_into(queue):
    torch.manual_seed(0)
    queue.put(cpp.selective_scan(operands(2, 40, 64), True, False).sum().item())


@needs_kernels
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
def test_a_forked_process_does_not_hang():
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    torch.manual_seed(0)
    expected = cpp.selective_scan(operands(2, 40, 64), True, False).sum().item()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's own about forking with threads is what this test is about
        child = context.Process(target=_scan_into, args=(queue,))
        child.start()
    child.join(timeout=30)
    hung = child.is_alive()
    child.kill()
    assert not hung
    assert queue.get() == expected


@needs_kernels
def test_own_threads_serve_when_openmp_is_missing():
    program = """
import torch
from rmeeto.ops import ScanOperands
from rmeeto.ops.impl import cpp, reference
from rmeeto.ops.impl.cpp import loading
loading.share_threads = lambda library: None
torch.set_num_threads(2)
torch.manual_seed(0)
u, delta = torch.randn(2, 2, 50, 64).unbind()
A, (B, C) = -torch.rand(64, 16), torch.randn(2, 2, 50, 16).unbind()
args = (ScanOperands(u, delta, A, B, C), True, False)
torch.testing.assert_close(cpp.selective_scan(*args), reference.selective_scan(*args))
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


# ---- the reference


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("extras", [False, True])
def test_reference_gradients_are_right(extras, reverse):
    without = () if extras else ("skip", "gate", "delta_bias")
    inputs = operands(2, 4, 3, 2, without=without)
    leaves = tuple(x if x is None else x.double().requires_grad_() for x in inputs)

    def scan(u, delta, A, B, C, skip, gate, delta_bias):
        options = {"skip": skip, "gate": gate, "delta_bias": delta_bias, "reverse": reverse}
        return selective_scan(u, delta, A, B, C, delta_softplus=True, impl="reference", **options)

    assert torch.autograd.gradcheck(scan, leaves)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("without", [(), ("skip",), ("gate",), ("delta_bias",)], ids="-".join)
def test_written_out_gradients_are_autograds(without, reverse):
    inputs = operands(2, 6, 5, 3, without=without)
    leaves = ScanOperands(*(x if x is None else x.double().requires_grad_() for x in inputs))
    grad = torch.randn(2, 6, 5, dtype=torch.float64)
    out = reference.selective_scan(leaves, True, reverse)
    expected = torch.autograd.grad(out, [x for x in leaves if x is not None], grad)
    detached = ScanOperands(*(x if x is None else x.detach() for x in leaves))
    found = reference.selective_scan_backward(grad, detached, True, reverse)
    for actual, truth in zip((g for g, x in zip(found, leaves, strict=True) if x is not None), expected, strict=True):
        torch.testing.assert_close(actual, truth)


def test_differentiating_under_a_dispatch_mode():
    u, delta, A, B, C, *_ = operands(1, 5, 6)
    u.requires_grad_()
    with FlopCounterMode(display=False):
        selective_scan(u, delta.abs(), A, B, C, impl="reference").sum().backward()
    assert u.grad.isfinite().all()


def test_reverse_is_a_flip_of_time():
    u, delta, A, B, C, skip, gate, bias = operands(2, 9, 5, 3)
    flipped = (x.flip(1) for x in (u, delta, B, C, gate))
    u_, delta_, B_, C_, gate_ = flipped
    expected = reference.selective_scan(ScanOperands(u_, delta_, A, B_, C_, skip, gate_, bias), True, False).flip(1)
    actual = reference.selective_scan(ScanOperands(u, delta, A, B, C, skip, gate, bias), True, True)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("impl", ["reference", pytest.param("cpp", marks=needs_kernels)])
def test_the_authors_reference_agrees(impl):
    """The repository's own reference function in float64, for float32 inputs; there the layout is (b, e, l)."""
    unit = {k.removeprefix("scan/"): v for k, v in arrays("units").items() if k.startswith("scan/")}
    mine = {
        "u": "u",
        "delta": "delta",
        "A": "A",
        "B": "B",
        "C": "C",
        "skip": "D",
        "gate": "z",
        "delta_bias": "delta_bias",
    }

    def read(name):
        x = torch.from_numpy(unit[name])
        return x.mT.contiguous() if x.ndim == 3 else x

    leaves = {name: read(theirs).requires_grad_() for name, theirs in mine.items()}
    out = selective_scan(**leaves, delta_softplus=True, impl=impl)
    out.backward(read("grad_out"))
    torch.testing.assert_close(out.double(), read("out_f64"), rtol=0, atol=5e-6)
    for name, theirs in mine.items():
        truth = read(f"grad_{theirs}_f64")
        scale = truth.abs().max().item()
        torch.testing.assert_close(leaves[name].grad.double(), truth, rtol=0, atol=2e-6 * max(scale, 1.0), msg=name)
    plain = {name: x for name, x in leaves.items() if name in ("u", "delta", "A", "B", "C")}
    out = selective_scan(**plain, delta_softplus=True, impl=impl)
    torch.testing.assert_close(out.double(), read("out_plain_f64"), rtol=0, atol=5e-6)


# ---- the operation as PyTorch sees it


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # from within opcheck
@pytest.mark.parametrize("impl", ["reference", pytest.param("cpp", marks=needs_kernels)])
@pytest.mark.parametrize("without", [(), ("skip", "gate", "delta_bias")], ids=["all", "bare"])
def test_opcheck(impl, without):
    inputs = operands(2, 5, 6, 4, without=without)
    leaves = tuple(x if x is None else x.requires_grad_() for x in inputs)
    torch.library.opcheck(torch.ops.rmeeto.selective_scan.default, (*leaves, True, False, impl))
    grad = torch.randn(2, 5, 6)
    torch.library.opcheck(
        torch.ops.rmeeto.selective_scan_backward.default,
        (grad, *(x if x is None else x.detach() for x in inputs), True, True, impl),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_nothing_to_differentiate():
    u, delta, A, B, C, *_ = operands(1, 5, 6)
    assert selective_scan(u, delta.abs(), A, B, C).grad_fn is None
    with torch.inference_mode():
        assert selective_scan(u.requires_grad_(), delta.abs(), A, B, C).is_inference()


@pytest.mark.parametrize("impl", ["reference", pytest.param("cpp", marks=needs_kernels)])
def test_only_wanted_gradients_come(impl):
    u, delta, A, B, C, skip, *_ = operands(2, 5, 6)
    u.requires_grad_()
    skip.requires_grad_()
    selective_scan(u, delta.abs(), A, B, C, skip=skip, impl=impl).square().sum().backward()
    assert u.grad is not None
    assert skip.grad is not None
    assert all(x.grad is None for x in (delta, A, B, C))


@needs_kernels
def test_mixed_dtypes_follow_u():
    u, delta, A, B, C, skip, gate, bias = operands(2, 9, 20)
    u = u.bfloat16().requires_grad_()
    delta.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = selective_scan(u, delta, A, B.bfloat16(), C, skip=skip, gate=gate, delta_bias=bias, delta_softplus=True)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert (u.grad.dtype, delta.grad.dtype) == (torch.bfloat16, torch.float32)


def test_no_images():
    u, delta, A, B, C, *_ = operands(0, 5, 6)
    A.requires_grad_()
    out = selective_scan(u, delta, A, B, C)
    assert out.shape == (0, 5, 6)
    out.sum().backward()
    assert torch.equal(A.grad, torch.zeros_like(A))


def test_compiling_is_the_first_thing_a_process_does():
    program = """
import torch
from rmeeto.ops import causal_conv, selective_scan

@torch.compile(fullgraph=True, backend="aot_eager")
def mixer(u, delta, A, B, C, weight):
    u = causal_conv(u, weight, reverse=True)
    return selective_scan(u, delta, A, B, C, gate=u, delta_softplus=True).sum()

u, delta = torch.randn(2, 2, 9, 6).unbind()
A, (B, C) = -torch.rand(6, 16), torch.randn(2, 2, 9, 16).unbind()
weight = torch.randn(6, 1, 4)
leaves = [x.clone().requires_grad_() for x in (u, delta, A, B, C, weight)]
mixer(*leaves).backward()
compiled = [x.grad.clone() for x in leaves]
for x in leaves:
    x.grad = None
mixer.__wrapped__(*leaves).backward()
for x, gradient in zip(leaves, compiled):
    torch.testing.assert_close(x.grad, gradient)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_export_keeps_the_operation_whole():
    class Scan(torch.nn.Module):
        def forward(self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
            return selective_scan(u, delta, A, B, C, delta_softplus=True)

    inputs = operands(2, 9, 6)[:5]
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = ({0: batch}, {0: batch}, None, {0: batch}, {0: batch})
    program = torch.export.export(Scan(), inputs, dynamic_shapes=shapes)
    assert "rmeeto.selective_scan" in str(program.graph)
    larger = operands(3, 9, 6)[:5]
    torch.testing.assert_close(program.module()(*larger), Scan()(*larger))


# ---- mistakes


def test_misfit_shapes_are_explained():
    u, delta, A, B, C, *_ = operands(2, 5, 6)
    with pytest.raises(UnsupportedInput, match=r"B must be \(2, 5, 16\)"):
        selective_scan(u, delta, A, B[:, :4], C)
    with pytest.raises(UnsupportedInput, match="at least one token"):
        selective_scan(u[:, :0], delta[:, :0], A, B[:, :0], C[:, :0])
    with pytest.raises(UnsupportedInput, match="floating"):
        selective_scan(u.int(), delta, A, B, C)


def test_unknown_implementation_suggests_one():
    with pytest.raises(UnknownName, match="did you mean cpp"):
        selective_scan(*operands(1, 2, 3)[:5], impl="cp")


@needs_kernels
def test_an_explicit_implementation_never_falls_back():
    u, delta, A, B, C, *_ = operands(1, 2, 3)
    with pytest.raises(UnsupportedInput, match="float32 or bfloat16"):
        selective_scan(u.double(), delta, A, B, C, impl="cpp")
    with pytest.raises(UnsupportedInput, match="at most 16 states"):
        selective_scan(*operands(1, 2, 3, 17)[:5], impl="cpp")
    if not torch.cuda.is_available():
        with pytest.raises(UnsupportedInput, match="no CUDA device"):
            selective_scan(u, delta, A, B, C, impl="triton")


@needs_kernels
def test_float64_goes_to_the_reference_without_a_word():
    inputs = in_double(operands(1, 4, 3)[:5])[:5]
    with warnings.catch_warnings():
        warnings.simplefilter("error", select.FallbackWarning)
        assert selective_scan(*inputs).dtype == torch.float64
