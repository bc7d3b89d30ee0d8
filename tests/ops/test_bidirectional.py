import pytest
import torch

from assertions import assert_within_budget
from cpp_kernels import IMPLS, needs_kernels
from rmeeto import ops
from rmeeto.errors import UnsupportedInput
from rmeeto.ops import ScanOperands, bidirectional_scan, selective_scan
from rmeeto.ops.impl import cpp


def walks(batch=2, length=37, e=20, n=5, dtype=torch.float32):
    def walk():
        u, delta = torch.randn(2, batch, length, e, dtype=dtype).unbind()
        B, C = torch.randn(2, batch, length, n, dtype=dtype).unbind()
        skip, bias = torch.randn(2, e).unbind()
        return ScanOperands(u, delta, -torch.rand(e, n) * 4, B, C, skip, delta_bias=bias)

    return walk(), walk(), torch.randn(batch, length, e, dtype=dtype)


def one_after_the_other(forward, backward, gate, impl="reference"):
    total = 0
    for walk, reverse in ((forward, False), (backward, True)):
        options = {"skip": walk.skip, "delta_bias": walk.delta_bias, "gate": gate, "reverse": reverse, "impl": impl}
        total = total + selective_scan(*walk[:5], delta_softplus=True, **options)
    return total


def double(forward, backward, gate):
    return in_double(forward), in_double(backward), gate.double()


def in_double(operands):
    return ScanOperands(*(x if x is None else x.double() for x in operands))


def gated(forward, backward, gate):
    return forward._replace(gate=gate), backward._replace(gate=gate)


def test_the_former_name_of_operands_goes_on_working():
    forward, *_ = walks()
    given = {name: x for name, x in forward._asdict().items() if name != "gate"}
    with pytest.warns(DeprecationWarning, match="ScanOperands"):
        former = ops.Walk
    assert former(*given.values()) is not None
    assert all(a is b for a, b in zip(former(**given), forward, strict=True))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("length", [1, 2, 64, 65, 197])
def test_equals_two_scans(impl, length):
    operands = walks(length=length)
    found = bidirectional_scan(*operands, impl=impl)
    assert found.is_contiguous()
    torch.testing.assert_close(found, one_after_the_other(*operands), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("length", "e", "n"), [(1, 1, 1), (70, 17, 16), (197, 48, 16), (130, 300, 3)])
def test_kernels_agree_with_float64(instruction_set, dtype, length, e, n):
    operands = walks(2, length, e, n, dtype)
    truth = one_after_the_other(*double(*operands))
    plain = one_after_the_other(*operands)
    assert_within_budget(cpp.bidirectional_scan(*gated(*operands)), plain, truth, what="out")


@pytest.mark.parametrize("impl", IMPLS)
def test_gradients_are_those_of_two_scans(impl):
    forward, backward, gate = walks(length=19, e=6, n=3)
    operands = [x.requires_grad_() for x in (*forward, *backward, gate) if x is not None]
    grad = torch.randn_like(gate)
    (bidirectional_scan(forward, backward, gate, impl=impl) * grad).sum().backward()
    exact = [x.detach().double().requires_grad_() for x in operands]
    *first, bias = exact[:7]
    *second, bias_b = exact[7:14]
    exact_walks = ScanOperands(*first, delta_bias=bias), ScanOperands(*second, delta_bias=bias_b)
    (one_after_the_other(*exact_walks, exact[14]) * grad).sum().backward()
    for ours, truth in zip(operands, exact, strict=True):
        torch.testing.assert_close(ours.grad.double(), truth.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("impl", IMPLS)
def test_reads_slices_where_they_lie(impl):
    forward, backward, _gate = walks()
    wide = torch.randn(2, 37, 3 * 20)
    sliced = (forward._replace(u=wide[..., 20:40]), backward._replace(delta=wide[..., :20]), wide[..., 40:])
    packed = (
        forward._replace(u=wide[..., 20:40].clone()),
        backward._replace(delta=wide[..., :20].clone()),
        wide[..., 40:].clone(),
    )
    torch.testing.assert_close(bidirectional_scan(*sliced, impl=impl), bidirectional_scan(*packed, impl=impl))


@needs_kernels
def test_threads_do_not_change_a_bit():
    operands, found, before = walks(3, 100, 70, 16), [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(cpp.bidirectional_scan(*gated(*operands)))
    torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_one_graph_under_compile():
    operands = walks(1, 5, 8, 4)
    compiled = torch.compile(bidirectional_scan, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*operands), bidirectional_scan(*operands))


@pytest.mark.parametrize("field", ["u", "delta", "A", "B", "C", "skip", "delta_bias"])
def test_refuses_directions_that_do_not_fit(field):
    forward, backward, gate = walks()
    odd = backward._replace(**{field: getattr(backward, field)[..., :-1]})
    with pytest.raises(UnsupportedInput):
        bidirectional_scan(forward, odd, gate)
    with pytest.raises(UnsupportedInput):
        bidirectional_scan(forward, backward, gate[:, :-1])
