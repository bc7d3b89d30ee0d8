"""All blocks in one call: bit for bit the blocks and the merges between them, one after the other."""

import pytest
import torch

from blocks import EPS, parameters_of, tokens_of
from cpp_kernels import needs_kernels
from rmeeto.errors import UnsupportedInput
from rmeeto.ops import Matching, block, merge_closest
from rmeeto.ops.block import PackedBlock
from rmeeto.ops.trunk import run_trunk

pytestmark = needs_kernels
REMOVED = (0, 7, 0, 9, 3)  # of 43 rows
PLAIN = Matching()


def packed_of(count, dtype=torch.float32):
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        found.append(PackedBlock(dtype, parameters_of(dtype=dtype), EPS))
    return found


def places(batch, *positions):
    return torch.tensor([positions] * batch, dtype=torch.int64).reshape(batch, -1)


def one_by_one(blocks, removed, x, protected, matching):
    residual, size = None, None
    for one, r in zip(blocks, removed, strict=True):
        if r:
            merged = merge_closest(x, x, residual, size, protected, r, **matching._asdict())
            x, residual, size, protected = merged[:4]
        x, residual, _, _ = one(x, residual)
    return x, residual, protected


@torch.no_grad()
def check(removed=REMOVED, batch=2, length=43, dtype=torch.float32, protected=(21,), matching=PLAIN):
    blocks, (x, _) = packed_of(len(removed), dtype), tokens_of(batch, length, 12)
    given = blocks, removed, x, places(batch, *protected), matching
    found, expected = run_trunk(*given), one_by_one(*given)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("removed", [(0,), (0, 0, 0), REMOVED, (0, 21), (0, 1, 20, 10, 5, 3, 1)])
def test_it_equals_its_parts(instruction_set, dtype, removed):
    check(removed, dtype=dtype)


@pytest.mark.parametrize("matching", [Matching("l1"), Matching("l2", nth=3), Matching(reach=2), Matching(reach=99)])
def test_every_matching(matching):
    check(matching=matching)


@pytest.mark.parametrize("protected", [(), (0,), (3, 17, 42)])
def test_wherever_protected_rows_stand(protected):
    check(protected=protected)


@pytest.mark.parametrize("cache", [1, 10_000, 1 << 30])
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_any_division_of_the_work(monkeypatch, cache, threads):
    monkeypatch.setattr(block, "CACHE", cache)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check(batch=5)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("removed", "why"), [((0, 22), "21 of them"), ((3, 0), "first block"), ((0, -1), "21 of them")]
)
def test_more_than_there_are_candidates(removed, why):
    with pytest.raises(UnsupportedInput, match=why):
        run_trunk(packed_of(2), removed, tokens_of(1, 43, 12)[0], places(1, 21), PLAIN)


def test_a_position_outside():
    with pytest.raises(IndexError, match="outside"):
        run_trunk(packed_of(2), (0, 3), tokens_of(1, 43, 12)[0], places(1, 43), PLAIN)
