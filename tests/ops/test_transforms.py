"""Every operation under PyTorch's function transforms, against loops, differences and double precision."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, jvp, vjp, vmap

from cpp_kernels import IMPLS, needs_kernels
from rmeeto import ops
from rmeeto.errors import UnsupportedInput
from rmeeto.ops.operands import BlockParameters

BATCH, LENGTH, CHANNELS, STATES = 2, 7, 6, 4


def tokens(width=CHANNELS):
    return torch.randn(BATCH, LENGTH, width)


def scan_operands():
    return [
        tokens(),
        torch.rand(BATCH, LENGTH, CHANNELS),
        -torch.rand(CHANNELS, STATES),
        tokens(STATES),
        tokens(STATES),
    ]


def per_channel():
    return torch.randn(CHANNELS)


def walk_operands():
    return [*scan_operands(), per_channel(), per_channel()]


def scan(u, delta, A, B, C, skip, gate, bias, impl="auto"):
    return ops.selective_scan(
        *(u, delta, A, B, C), skip=skip, gate=gate, delta_bias=bias, delta_softplus=True, impl=impl
    )


def scan_of_few(u, delta, A, B, C, impl="auto"):
    return ops.selective_scan(u, delta, A, B, C, reverse=True, impl=impl)


def both(*operands, impl="auto"):
    *operands, gate = operands
    forward, backward = (ops.ScanOperands(*others, delta_bias=bias) for *others, bias in (operands[:7], operands[7:]))
    return ops.bidirectional_scan(forward, backward, gate, impl=impl)


def conv(x, weight, bias, impl="auto"):
    return ops.causal_conv(x, weight, bias, reverse=True, impl=impl)


def block_operands():
    def side():
        weights = torch.randn(3 + 2 * STATES, CHANNELS), torch.randn(CHANNELS, 3) / 3
        return [
            torch.randn(CHANNELS, 1, 3),
            per_channel(),
            -torch.rand(CHANNELS, STATES),
            per_channel(),
            per_channel(),
            *weights,
        ]

    return [
        tokens(),
        tokens(),
        per_channel(),
        torch.randn(2 * CHANNELS, CHANNELS),
        torch.randn(CHANNELS, CHANNELS),
        *side(),
        *side(),
    ]


def block(x, residual, *parameters, impl="auto"):
    out, stream = ops.mamba_block(x, residual, BlockParameters.of(parameters), eps=1e-5, scale=0.5, impl=impl)
    return torch.cat([out, stream], dim=-1)


def norm(x, residual, weight, impl="auto"):
    normed, stream = ops.add_norm(x, residual, weight, impl=impl)
    return torch.cat([normed, stream.to(normed.dtype)], dim=-1)


KEPT, SOURCE = torch.tensor([[1, 2, 4, 5, 6], [0, 1, 2, 3, 6]]), torch.tensor([[0, 3], [4, 5]])
TARGET, SHARE = torch.tensor([[1, 1], [0, 4]]), torch.tensor([[0.3, 0.5], [0.25, 0.5]])


def merge(values, impl="auto"):
    return ops.merge_rows(values, KEPT, SOURCE, TARGET, SHARE.to(torch.float32), impl=impl)


OPERATIONS = {
    "scan": (scan, lambda: [*scan_operands(), per_channel(), tokens(), per_channel()]),
    "scan of few": (scan_of_few, scan_operands),
    "both": (both, lambda: [*walk_operands(), *walk_operands(), tokens()]),
    "conv": (conv, lambda: [tokens(), torch.randn(CHANNELS, 1, 3), per_channel()]),
    "norm": (norm, lambda: [tokens(), tokens(), per_channel()]),
    "block": (block, block_operands),
    "merge": (merge, lambda: [tokens()]),
}


@pytest.fixture(params=OPERATIONS)
def operation(request):
    """A function of tensors and ``impl``, and operands for it."""
    function, operands = OPERATIONS[request.param]
    return function, operands()


# PyTorch's forward mode loads a script of its own
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")


def exactly(tensors):
    return [x.double() for x in tensors]


def assert_close(found, expected):
    for x, truth in zip(found, expected, strict=True):
        tolerance = 1e-5 if x.dtype == torch.float32 else 1e-10
        torch.testing.assert_close(x, truth.to(x.dtype), rtol=tolerance, atol=tolerance * truth.abs().max().item())


def weighted_sum(function, impl="auto"):
    """Of what it gives, with other weights for each number."""

    def total(*operands):
        out = function(*operands, impl=impl)
        return (out * torch.arange(out[0].numel()).reshape(out.shape[1:]).sin().to(out.dtype)).sum()

    return total


@pytest.mark.parametrize("impl", IMPLS)
def test_gradients(operation, impl):
    function, operands = operation
    places = tuple(range(len(operands)))
    found = grad(weighted_sum(function, impl), argnums=places)(*operands)
    leaves = [x.requires_grad_() for x in exactly(operands)]
    assert_close(found, torch.autograd.grad(weighted_sum(function)(*leaves), leaves))


@pytest.mark.parametrize("impl", IMPLS)
def test_slices_of_every_operand_one_by_one(operation, impl):
    function, operands = operation
    many = [torch.stack([x, x.flip(0), 0.5 * x]) for x in operands]
    expected = [function(*slices, impl=impl) for slices in zip(*many, strict=True)]
    assert_close(vmap(lambda *slices: function(*slices, impl=impl))(*many), expected)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("mapped", ["tokens", "all"])
def test_gradients_of_each_slice(operation, impl, mapped):
    function, operands = operation
    places = tuple(range(len(operands)))
    in_dims = tuple(0 if x.shape[0] == BATCH or mapped == "all" else None for x in operands)
    many = [x if dim is None else torch.stack([x, 0.5 * x], dim=dim) for x, dim in zip(operands, in_dims, strict=True)]
    of_one = grad(weighted_sum(function, impl), argnums=places)
    found = vmap(of_one, in_dims=in_dims)(*many)
    for i in range(2):
        one = [x if dim is None else x[i] for x, dim in zip(many, in_dims, strict=True)]
        assert_close([gradient[i] for gradient in found], of_one(*one))


def test_tangents(operation):
    function, operands = operation
    operands, tangents = exactly(operands), exactly([torch.randn(x.shape) for x in operands])
    out, tangent = jvp(function, tuple(operands), tuple(tangents))
    assert_close([out], [function(*operands)])
    step = 1e-6
    ahead, behind = (
        function(*(x + sign * step * t for x, t in zip(operands, tangents, strict=True))) for sign in (1, -1)
    )
    torch.testing.assert_close(tangent, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7)


def test_tangents_agree_with_gradients_in_float32(operation):
    function, operands = operation
    tangents = [torch.randn(x.shape) for x in operands]
    out, tangent = jvp(function, tuple(operands), tuple(tangents))
    weights = torch.randn(out.shape)
    gradients = vjp(function, *operands)[1](weights)
    across = sum((g * t).sum() for g, t in zip(gradients, tangents, strict=True))
    torch.testing.assert_close((weights * tangent).sum(), across, rtol=1e-4, atol=1e-3)


def test_dual_numbers(operation):
    function, operands = operation
    tangents = [torch.randn(x.shape) for x in operands]
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(operands, tangents, strict=True)]
        found = forward_ad.unpack_dual(function(*duals))
    expected = jvp(function, tuple(operands), tuple(tangents))
    assert_close([found.primal, found.tangent], expected)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Dynamo says where it gives up
def test_tangents_in_a_compiled_function():
    x, weight, tangent = tokens(), torch.randn(CHANNELS, 1, 3), tokens()

    def along(x, tangent):
        return jvp(lambda x: ops.causal_conv(x, weight), (x,), (tangent,))

    assert_close(torch.compile(along, backend="eager")(x, tangent), along(x, tangent))


@needs_kernels
def test_kernels_asked_for_by_name_have_no_tangents(operation):
    function, operands = operation
    with pytest.raises(UnsupportedInput, match="forward-mode"):
        jvp(lambda *given: function(*given, impl="cpp"), tuple(operands), tuple(operands))


@pytest.mark.parametrize("impl", IMPLS)
def test_gradients_of_gradients(operation, impl):
    function, operands = operation
    weights = [torch.randn(x.shape) for x in operands]

    def second(function, operands, weights):
        leaves = [x.clone().requires_grad_() for x in operands]
        first = torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=True)
        penalty = sum((gradient * weight).sum() for gradient, weight in zip(first, weights, strict=True))
        return torch.autograd.grad(penalty, leaves)

    found = second(lambda *given: function(*given, impl=impl), operands, weights)
    truth = second(function, exactly(operands), exactly(weights))
    for x, expected in zip(found, truth, strict=True):
        torch.testing.assert_close(x, expected.float(), rtol=1e-3, atol=1e-5 * expected.abs().max().item())


def test_gradients_of_gradients_against_finite_differences(operation):
    function, operands = operation
    torch.autograd.gradgradcheck(function, [x.requires_grad_() for x in exactly(operands)], fast_mode=True)


def test_third_derivatives():
    operands = exactly([*scan_operands(), per_channel(), tokens(), per_channel()])
    total = weighted_sum(scan)

    def third(x):
        along = lambda f: lambda step: jvp(f, (step,), (torch.ones_like(step),))[1]  # noqa: E731
        return along(along(along(lambda step: total(x + step, *operands[1:]))))(torch.zeros((), dtype=x.dtype))

    def by_gradients(x):
        first = grad(lambda step: total(x + step, *operands[1:]))
        return grad(grad(first))(torch.zeros((), dtype=x.dtype))

    torch.testing.assert_close(by_gradients(operands[0]), third(operands[0]))


@pytest.mark.parametrize("impl", IMPLS)
def test_decisions_of_each_slice(impl):
    a, b = torch.randn(3, BATCH, LENGTH, 5), torch.randn(3, BATCH, LENGTH, 5)
    low, fixed = torch.zeros(BATCH, LENGTH, dtype=torch.int64), torch.tensor([[3], [0]])
    cases = [
        (lambda a, b: ops.find_nearest(a, b, impl=impl), (a, b)),
        (lambda a, b: ops.find_nearest(a, b, seen=(low, low + 3), impl=impl), (a, b)),
        (lambda a: tuple(ops.closest_pairs(a, fixed, 2, impl=impl)), (a,)),
        (lambda source: ops.lay_out(source, None, LENGTH, impl=impl), (torch.stack([SOURCE, SOURCE, SOURCE]),)),
    ]
    for function, operands in cases:
        found = vmap(function)(*operands)
        for i in range(3):
            expected = function(*(x[i] for x in operands))
            assert all(torch.equal(x[i], y) for x, y in zip(found, expected, strict=True))


def test_decisions_have_no_tangents_and_no_gradients():
    a = torch.randn(BATCH, LENGTH, 5)
    (similarity, _), (tangent, _) = jvp(lambda a: ops.find_nearest(a, a), (a,), (a,))
    assert torch.equal(similarity, ops.find_nearest(a, a)[0])
    assert not tangent.any()
    assert not grad(lambda a: ops.find_nearest(a, a)[0].sum())(a).any()


def test_the_reference_may_be_mapped_in_second_derivatives():
    """Nothing in it is written in place, which a map over one of several operands forbids."""
    (u, *others), gate = exactly(scan_operands()), tokens().double()
    hessian = torch.func.jacrev(torch.func.jacrev(lambda u: scan(u, *others, None, gate, None).square().sum()))(u)
    expected = torch.autograd.functional.hessian(lambda u: scan(u, *others, None, gate, None).square().sum(), u)
    torch.testing.assert_close(hessian, expected)
