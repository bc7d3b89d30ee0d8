"""A network in one call: bit for bit its embedding, blocks, merges and classifier, one after the other."""

import pytest
import torch

from blocks import EPS, parameters_of
from cpp_kernels import needs_kernels
from rmeeto.errors import UnsupportedInput
from rmeeto.ops import Matching, Neighbours, merge_closest, merge_neighbours
from rmeeto.ops.packed import block
from rmeeto.ops.packed.block import PackedBlock
from rmeeto.ops.packed.linear import PackedClassifier, PackedEmbedding
from rmeeto.ops.packed.network import PackedNetwork

pytestmark = needs_kernels
DIM, CLASSES, PATCHES, CLASS_AT = 12, 9, 42, 21
REMOVED = (0, 7, 0, 9, 3)  # of the patches and a learned row
PLAIN = Matching()


def parts_of(depth, dtype=torch.float32):
    """Images are 3 x 12 x 14 in patches of 2 x 2."""
    torch.manual_seed(depth)
    patch_at = torch.arange(PATCHES).tolist()
    patch_at = torch.tensor([*patch_at[:CLASS_AT], -1, *patch_at[CLASS_AT:]])
    embedding = PackedEmbedding(dtype, torch.randn(DIM, 3, 2, 2), torch.randn(PATCHES + 1, DIM), patch_at)
    blocks = [PackedBlock(dtype, parameters_of(dtype=dtype), EPS) for _ in range(depth)]
    weight, bias = torch.randn(CLASSES, DIM), torch.randn(CLASSES)
    return embedding, blocks, PackedClassifier(dtype, torch.rand(DIM), EPS, weight, bias)


def one_by_one(embedding, blocks, classifier, places, removed, matching, images):
    x, residual, size = embedding(images), None, None
    protected = torch.tensor([places] * len(images), dtype=torch.int64).reshape(len(images), -1)
    for one, r in zip(blocks, removed, strict=True):
        if r:
            merge = merge_neighbours if isinstance(matching, Neighbours) else merge_closest
            merged = merge(x, x, residual, size, protected, r, **matching._asdict())
            x, residual, size, protected = merged[:4]
        x, residual, _, _ = one(x, residual)
    return classifier(x, residual, protected)


@torch.no_grad()
def check(removed=REMOVED, batch=2, dtype=torch.float32, protected=(CLASS_AT,), matching=PLAIN):
    parts, images = parts_of(len(removed), dtype), torch.randn(batch, 3, 12, 14)
    choices = protected, removed, matching
    found, expected = PackedNetwork(*parts, *choices)(images), one_by_one(*parts, *choices, images)
    assert found.dtype == expected.dtype == dtype
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("removed", [(0,), (0, 0, 0), REMOVED, (0, 21), (0, 1, 20, 10, 5, 3, 1)])
def test_it_equals_its_parts(instruction_set, dtype, removed):
    check(removed, dtype=dtype)


@pytest.mark.parametrize("matching", [Matching("l1"), Matching("l2", nth=3), Matching(reach=2), Matching(reach=99)])
def test_every_matching(matching):
    check(matching=matching)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("matching", [Neighbours(), Neighbours(guard=2)])
def test_neighbours(instruction_set, dtype, matching):
    check(matching=matching, dtype=dtype)


@pytest.mark.parametrize("matching", [PLAIN, Neighbours(guard=2)])
@pytest.mark.parametrize("protected", [(0,), (42, 0, 17)])
def test_wherever_protected_rows_stand(protected, matching):
    check(protected=protected, matching=matching)


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


def test_what_was_packed_outlives_its_parts():
    parts, images = parts_of(2), torch.randn(2, 3, 12, 14)
    network = PackedNetwork(*parts, (CLASS_AT,), (0, 7), PLAIN)
    expected = network(images)
    del parts
    assert torch.equal(network(images), expected)


@pytest.mark.parametrize(
    ("protected", "removed", "why"),
    [
        ((21,), (0, 22), "21 of them"),
        ((21,), (3, 0), "first block"),
        ((21,), (0, -1), "21 of them"),
        ((43,), (0, 3), "outside"),
        ((21, -1), (0, 3), "outside"),
    ],
)
def test_what_would_leave_the_rows_is_refused(protected, removed, why):
    with pytest.raises(UnsupportedInput, match=why):
        PackedNetwork(*parts_of(2), protected, removed, PLAIN)
