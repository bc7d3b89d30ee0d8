"""A block's gradients in one call against those of its parts in float64: every operand, every instruction set."""

import pytest
import torch

from assertions import assert_within_budget
from blocks import EPS, by_parts, parameters_of, tokens_of
from cpp_kernels import IMPLS, needs_kernels
from rmeeto.errors import UnsupportedInput
from rmeeto.ops import mamba_block
from rmeeto.ops.block import why_by_parts
from rmeeto.ops.impl import cpp
from rmeeto.ops.operands import PARAMETER_NAMES, BlockParameters

pytestmark = needs_kernels
SCALE = 0.5


def by_parts_of(dtype):
    def run(x, residual, parameters):
        found = by_parts(parameters, x, residual, dtype, SCALE)
        return found["x"], found["stream"]

    return run


def at_once(x, residual, parameters):
    return mamba_block(x, residual, parameters, eps=EPS, scale=SCALE, impl="cpp")


def outputs_and_gradients(block, operands, gradients):
    leaves = [x.clone().requires_grad_() for x in operands]
    outputs = block(leaves[0], leaves[1], BlockParameters.of(leaves[2:]))
    return [*outputs, *torch.autograd.grad(outputs, leaves, gradients)]


def check(parameters, x, residual, slack=16.0):
    """Twice the usual slack: a gradient has come through seven operations, in each of which one may be the luckier."""
    operands, gradients = [x, residual, *parameters.flat()], [torch.randn(x.shape), torch.randn(x.shape)]
    found = outputs_and_gradients(at_once, operands, gradients)
    plain = outputs_and_gradients(by_parts_of(torch.float32), operands, gradients)
    exactly = [[t.double() for t in given] for given in (operands, gradients)]
    truth = outputs_and_gradients(by_parts_of(torch.float64), *exactly)
    names = ["out", "stream", *(f"gradient of {name}" for name in ("x", "residual", *PARAMETER_NAMES))]
    for name, *results in zip(names, found, plain, truth, strict=True):
        assert_within_budget(*results, what=name, slack=slack)


@pytest.mark.parametrize(
    ("dim", "inner", "states", "rank", "width"),
    [(12, 24, 5, 3, 4), (7, 13, 16, 1, 2), (96, 192, 16, 12, 4), (40, 80, 1, 33, 3), (33, 71, 8, 35, 4)],
)
def test_agrees_with_float64(instruction_set, dim, inner, states, rank, width):
    check(parameters_of(dim, inner, states, rank, width), *tokens_of(2, 43, dim))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 7, 63, 64, 65, 197, 300])
def test_every_length(instruction_set, length):
    check(parameters_of(), *tokens_of(2, length, 12))


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 9])
def test_every_batch(batch):
    check(parameters_of(), *tokens_of(batch, 19, 12))


def test_sums_do_not_depend_on_the_number_of_threads():
    operands = [*tokens_of(5, 43, 12), *parameters_of().flat()]
    gradients = [torch.randn(5, 43, 12) for _ in range(2)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5, 23):
            torch.set_num_threads(threads)
            found.append(outputs_and_gradients(at_once, operands, gradients))
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


def test_the_first_block_has_no_stream():
    parameters, (x, _) = parameters_of(), tokens_of(2, 19, 12)
    x.requires_grad_()
    none, zero = at_once(x, None, parameters), at_once(x, torch.zeros_like(x), parameters)
    assert all(torch.equal(a, b) for a, b in zip(none, zero, strict=True))
    assert torch.equal(*(torch.autograd.grad(out.sum(), x)[0] for out, _ in (none, zero)))


def test_steps_too_long_for_the_fast_exponential(instruction_set):
    parameters = parameters_of()
    steep = [side._replace(A=side.A * 1e3) for side in (parameters.forward, parameters.backward)]
    # an exponent of a hundred turns its own rounding into a hundred of the decay's
    check(parameters._replace(forward=steep[0], backward=steep[1]), *tokens_of(2, 19, 12), slack=100.0)


def test_operands_may_be_slices():
    parameters, (x, residual) = parameters_of(), tokens_of(2, 38, 12)
    check(parameters, x[:, ::2], residual[:, ::2])


def test_an_output_that_nobody_reads_has_no_gradient():
    parameters, (x, residual) = parameters_of(), tokens_of(2, 19, 12)
    x.requires_grad_()
    out, stream = at_once(x, residual, parameters)
    both = torch.autograd.grad([out, stream], x, [torch.ones_like(out), torch.zeros_like(stream)], retain_graph=True)
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], both[0])


def test_only_wanted_gradients_are_given():
    parameters, (x, residual) = parameters_of(), tokens_of(2, 19, 12)
    parameters.in_proj.requires_grad_()
    out, _ = at_once(x, residual, parameters)
    out.sum().backward()
    assert parameters.in_proj.grad is not None
    assert x.grad is None
    assert parameters.out_proj.grad is None


def test_a_parameter_changed_before_the_way_back_is_refused():
    parameters, (x, residual) = parameters_of(), tokens_of(2, 19, 12)
    x.requires_grad_()
    out, _ = at_once(x, residual, parameters)
    parameters.out_proj.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def second_gradients(block, operands, weights):
    """Gradients of all operands, of a sum over their weighted first gradients."""
    leaves = [x.clone().requires_grad_() for x in operands]
    out, stream = block(leaves[0], leaves[1], BlockParameters.of(leaves[2:]))
    first = torch.autograd.grad((out * out).sum() + (stream * stream).sum(), leaves, create_graph=True)
    penalty = sum((gradient * weight).sum() for gradient, weight in zip(first, weights, strict=True))
    return torch.autograd.grad(penalty, leaves)


def test_gradients_of_gradients():
    operands = [*tokens_of(2, 19, 12), *parameters_of().flat()]
    weights = [torch.randn_like(x) for x in operands]
    found = second_gradients(at_once, operands, weights)
    plain = second_gradients(by_parts_of(torch.float32), operands, weights)
    exactly = [[x.double() for x in given] for given in (operands, weights)]
    truth = second_gradients(by_parts_of(torch.float64), *exactly)
    for name, *results in zip(["x", "residual", *PARAMETER_NAMES], found, plain, truth, strict=True):
        assert_within_budget(*results, what=name, slack=64.0)


@pytest.mark.parametrize("residual", [True, False])
def test_the_plain_gradients_are_those_of_autograd(residual):
    x, stream = (t.double() for t in tokens_of(2, 9, 12))
    operands = [x, *([stream] if residual else []), *(t.double() for t in parameters_of(states=3).flat())]
    gradients = [torch.randn_like(x), torch.randn_like(x)]

    def results(block):
        leaves = [t.clone().requires_grad_() for t in operands]
        stream = leaves[1] if residual else None
        outputs = block(leaves[0], stream, BlockParameters.of(leaves[1 + residual :]))
        return [*outputs, *torch.autograd.grad(outputs, leaves, gradients)]

    by_operation = results(lambda *given: mamba_block(*given, eps=EPS, scale=SCALE, impl="reference"))
    torch.testing.assert_close(by_operation, results(by_parts_of(torch.float64)), rtol=1e-9, atol=1e-11)


@pytest.fixture
def calls(monkeypatch):
    """Blocks that were one call."""
    found, run = [], cpp.mamba_block

    def count(x, *rest):
        found.append(x)
        return run(x, *rest)

    monkeypatch.setattr(cpp, "mamba_block", count)
    return found


def of_too_many_states(x, parameters):
    return x, parameters_of(states=17), "17"


def in_double_precision(x, parameters):
    return x.double(), BlockParameters.of([t.double() for t in parameters.flat()]), "float32 only"


def with_slices_for_parameters(x, parameters):
    return x, parameters._replace(in_proj=parameters.in_proj.t().contiguous().t()), "contiguous"


def of_no_image(x, parameters):
    return x[:0], parameters, "at least one image"


@pytest.mark.parametrize(
    "given",
    [of_too_many_states, in_double_precision, with_slices_for_parameters, of_no_image],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_the_other_operations_compute_what_no_kernel_takes_and_it_says_why(given, impl, calls):
    x, parameters, reason = given(tokens_of(2, 19, 12)[0], parameters_of())
    assert reason in why_by_parts(x, "auto", parameters)
    if len(x):
        found = mamba_block(x, None, parameters, eps=EPS, scale=SCALE, impl=impl)
        torch.testing.assert_close(found, by_parts_of(x.dtype)(x, None, parameters), rtol=1e-4, atol=1e-5)
    assert not calls


def test_it_is_one_call_where_gradients_are_recorded(calls):
    (x, residual), parameters = tokens_of(2, 19, 12), parameters_of()
    assert why_by_parts(x, "auto", parameters) is None
    at_once(x, residual, parameters)
    mamba_block(x, residual, parameters, eps=EPS, scale=SCALE)
    assert len(calls) == 2
    with torch.no_grad():
        assert "no gradients" in why_by_parts(x, "auto", parameters)
        mamba_block(x, residual, parameters, eps=EPS, scale=SCALE)
    with torch.autocast("cpu", torch.bfloat16):
        assert "autocast" in why_by_parts(x, "auto", parameters)
        assert mamba_block(x, residual, parameters, eps=EPS, scale=SCALE)[0].dtype == torch.bfloat16
    assert len(calls) == 2


@pytest.mark.parametrize("impl", IMPLS)
def test_every_way_gives_the_same_in_inference(impl):
    (x, residual), parameters = tokens_of(2, 19, 12), parameters_of()
    with torch.no_grad():
        found = mamba_block(x, residual, parameters, eps=EPS, scale=SCALE, impl=impl)
    torch.testing.assert_close(found, by_parts_of(torch.float32)(x, residual, parameters), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda p: p._replace(norm_weight=p.norm_weight[:-1]), r"norm_weight must be \(12,\)"),
        (lambda p: p._replace(in_proj=p.in_proj[:-1]), r"in_proj must be \(48, 12\)"),
        (lambda p: p._replace(backward=p.backward._replace(skip=p.forward.A)), r"skip_b must be \(24,\)"),
        (lambda p: p._replace(out_proj=p.out_proj.long()), "out_proj must be floating"),
    ],
)
def test_operands_that_do_not_fit_are_refused(change, why):
    with pytest.raises(UnsupportedInput, match=why):
        mamba_block(*tokens_of(2, 19, 12), change(parameters_of()), eps=EPS, scale=SCALE)


def test_kernels_asked_for_by_name_say_what_they_cannot_take():
    operands = [*tokens_of(2, 19, 12), *parameters_of(states=17).flat()]
    with pytest.raises(UnsupportedInput, match="up to 16 states"):
        torch.ops.rmeeto.mamba_block(*operands, EPS, SCALE, "cpp")
