"""The packed block against its parts in float64: every instruction set, sizes that leave a remainder everywhere."""

import gc

import pytest
import torch

from assertions import assert_within_budget
from blocks import EPS, by_parts, parameters_of, tokens_of
from cpp_kernels import needs_kernels
from rmeeto.ops.impl import cpp
from rmeeto.ops.packed import block as packed_block
from rmeeto.ops.packed.block import PackedBlock, unsupported_reason

pytestmark = needs_kernels


def check(parameters, x, residual, dtype):
    found = PackedBlock(dtype, parameters, EPS)(x, residual)
    plain, truth = by_parts(parameters, x, residual, dtype), by_parts(parameters, x, residual, torch.float64)
    for name in plain:
        assert getattr(found, name).shape == plain[name].shape
        if dtype == torch.float32:
            assert_within_budget(getattr(found, name), plain[name], truth[name], what=name)
        else:
            assert_as_exact(getattr(found, name), plain[name], truth[name], what=name)


def assert_as_exact(actual, plain, truth, what):
    """As a whole no further off than the parts are, each of which rounds its result: one number tells nothing then."""
    error, allowed = (actual.double() - truth).abs(), (plain.double() - truth).abs()
    rounding = torch.finfo(torch.bfloat16).eps * truth.abs()
    assert actual.isfinite().all()
    assert error.max() <= 2 * allowed.max() + rounding.max(), what
    assert rms(error) <= 1.1 * rms(allowed) + 0.2 * rms(rounding), what


def rms(x):
    return x.square().mean().sqrt()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("dim", "inner", "states", "rank", "width"),
    [(12, 24, 5, 3, 4), (7, 13, 16, 1, 2), (192, 384, 16, 12, 4), (40, 80, 1, 33, 3), (33, 71, 8, 35, 4)],
)
def test_agrees_with_float64(instruction_set, dtype, dim, inner, states, rank, width):
    check(parameters_of(dim, inner, states, rank, width, dtype), *tokens_of(2, 43, dim, dtype), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 7, 31, 32, 33, 197])
def test_every_length(instruction_set, dtype, length):
    check(parameters_of(dtype=dtype), *tokens_of(8, length, 12, dtype), dtype)


@pytest.mark.parametrize("cache", [1, 10_000, 1 << 30])
@pytest.mark.parametrize("threads", [1, 2, 3, 5, 23])
def test_any_division_of_the_work(monkeypatch, cache, threads):
    monkeypatch.setattr(packed_block, "CACHE", cache)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check(parameters_of(), *tokens_of(5, 43, 12), torch.float32)
    finally:
        torch.set_num_threads(before)


def test_the_first_block_has_no_stream(instruction_set):
    check(parameters_of(), tokens_of(2, 19, 12)[0], None, torch.float32)


def test_an_embedding_in_float32_before_products_in_bfloat16(instruction_set):
    x, _ = tokens_of(2, 19, 12)
    check(parameters_of(dtype=torch.bfloat16), x.bfloat16().float(), None, torch.bfloat16)


def test_steps_too_long_for_the_fast_exponential(instruction_set):
    parameters = parameters_of()
    steep = [side._replace(A=side.A * 1e3) for side in (parameters.forward, parameters.backward)]
    check(parameters._replace(forward=steep[0], backward=steep[1]), *tokens_of(2, 19, 12), torch.float32)


def test_the_sum_of_both_directions_is_scaled():
    parameters, operands = parameters_of(), tokens_of(2, 19, 12)
    once, halved = (PackedBlock(torch.float32, parameters, EPS, scale)(*operands).x for scale in (1.0, 0.5))
    assert torch.equal(halved, once * 0.5)


def test_a_nan_spreads_as_in_the_parts():
    parameters, (x, residual) = parameters_of(), tokens_of(2, 19, 12)
    x[1, 7, 3] = float("nan")
    found = PackedBlock(torch.float32, parameters, EPS)(x, residual)
    plain = by_parts(parameters, x, residual, torch.float32)
    assert torch.equal(found.x.isnan(), plain["x"].isnan())


def test_what_was_packed_outlives_a_change_of_kernels():
    parameters, operands = parameters_of(), tokens_of(2, 19, 12)
    block = PackedBlock(torch.float32, parameters, EPS)
    expected = block(*operands).x
    assert cpp.use_instruction_set("portable")
    try:
        assert torch.equal(block(*operands).x, expected)
    finally:
        cpp.use_instruction_set(None)


def test_parameters_are_copied():
    parameters, operands = parameters_of(), tokens_of(2, 19, 12)
    block = PackedBlock(torch.float32, parameters, EPS)
    expected = block(*operands).x
    for parameter in parameters.flat():
        parameter.zero_()
    assert torch.equal(block(*operands).x, expected)


def test_packed_memory_is_given_back():
    parameters = parameters_of(dim=512, inner=1024)

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def pack_some():
        for _ in range(20):  # 8 MB each
            PackedBlock(torch.float32, parameters, EPS)
        gc.collect()

    pack_some()
    before = resident()
    pack_some()
    assert resident() - before < 80 << 20


@pytest.mark.parametrize(
    ("instruction_set", "has_matrix_registers", "reason"),
    [("avx512_bf16", False, None), ("avx512_bf16", True, "AMX"), ("avx2", False, "AVX512-BF16")],
)
def test_products_of_bfloat16_belong_to_whom_they_are_fastest_with(
    monkeypatch, instruction_set, has_matrix_registers, reason
):
    class Library:
        rmeeto_has_matrix_registers = staticmethod(lambda: has_matrix_registers)

    monkeypatch.setattr(cpp, "library", Library)
    monkeypatch.setattr(cpp, "instruction_set", lambda: instruction_set)
    assert unsupported_reason(torch.float32, 16, 4) is None
    found = unsupported_reason(torch.bfloat16, 16, 4)
    assert found is None if reason is None else reason in found


def test_what_it_does_not_take():
    assert unsupported_reason(torch.float32, 16, 4) is None
    assert "17 states" in unsupported_reason(torch.float32, 17, 4)
    assert "5 taps" in unsupported_reason(torch.float32, 16, 5)
    assert "float64" in unsupported_reason(torch.float64, 16, 4)
