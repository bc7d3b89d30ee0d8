from itertools import product

import pytest
import torch

from cpp_kernels import IMPLS, needs_kernels
from rmeeto.errors import UnknownName, UnsupportedInput
from rmeeto.ops import closest_pairs

PROTECTED = torch.tensor([[0, 3], [11, 0], [22, 21]])


def assert_same(found, expected):
    for name, ours, theirs in zip(found._fields, found, expected, strict=True):
        assert ours.is_contiguous()
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize(
    ("distance", "nth", "reach", "length", "r"),
    list(product(["cosine", "l1", "l2"], [1, 4], [None, 1, 3], [23, 24], [0, 7, 11])),
)
def test_kernels_equal_the_reference(instruction_set, distance, nth, reach, length, r):
    features = torch.randn(3, length, 19)
    r = min(r, (length - 2) - (length - 2) // 2)
    options = {"distance": distance, "nth": nth, "reach": reach}
    found, expected = (closest_pairs(features, PROTECTED, r, impl=impl, **options) for impl in ("cpp", "reference"))
    assert_same(found, expected)


@pytest.mark.parametrize("impl", IMPLS)
def test_equal_rows_rank_by_position(impl):
    found = closest_pairs(torch.ones(1, 131, 4), torch.tensor([[65]]), 40, impl=impl)
    assert found.ranked[0].tolist() == [i for i in range(131) if i != 65][0::2]
    assert (found.target == 1).all()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("protected", [torch.zeros(2, 0, dtype=torch.int64), torch.tensor([[9, 1, 4], [0, 1, 2]])])
def test_any_number_of_rows_may_be_protected(impl, protected):
    found = closest_pairs(torch.randn(2, 10, 5), protected, 2, impl=impl)
    for i in range(2):
        patches = [p for p in range(10) if p not in protected[i]]
        assert sorted(found.ranked[i].tolist()) == patches[0::2]
        assert found.targets[i].tolist() == patches[1::2]
        assert set(found.target[i].tolist()) <= set(patches[1::2])
        assert torch.equal(found.source[i], found.ranked[i, :2])


@needs_kernels
@pytest.mark.parametrize("length", [1569, 1570])
def test_long_sequences(length):
    features = torch.randn(2, length, 8, dtype=torch.bfloat16)
    protected = torch.tensor([[0], [700]])
    assert_same(*(closest_pairs(features, protected, 88, reach=5, impl=impl) for impl in ("cpp", "reference")))


@needs_kernels
def test_float16_is_compared_in_float32():
    features = torch.randn(3, 23, 17, dtype=torch.float16)
    assert_same(*(closest_pairs(x, PROTECTED, 7, impl="cpp") for x in (features, features.float())))


@pytest.mark.parametrize("impl", IMPLS)
def test_slices_are_read_where_they_lie(impl):
    wide = torch.randn(3, 23, 40)
    for features in (wide[..., 3:20], torch.randn(3, 9, 23).mT):
        found = closest_pairs(features, PROTECTED, 7, impl=impl)
        assert_same(found, closest_pairs(features.contiguous(), PROTECTED, 7, impl=impl))


@pytest.mark.parametrize("impl", IMPLS)
def test_nan_leaves_positions_that_exist(impl):
    features = torch.randn(3, 23, 6)
    features[:, 5:9] = torch.nan
    found = closest_pairs(features, PROTECTED, 7, impl=impl)
    assert (found.ranked.sort(dim=1).values.diff(dim=1) > 0).all()  # each candidate once
    assert all(set(t.tolist()) <= set(all_.tolist()) for t, all_ in zip(found.target, found.targets, strict=True))


@needs_kernels
@pytest.mark.parametrize("position", [-1, 23])
def test_protected_positions_outside_are_refused(position):
    protected = PROTECTED.clone()
    protected[2, 1] = position
    with pytest.raises(IndexError, match="outside"):
        closest_pairs(torch.randn(3, 23, 6), protected, 7, impl="cpp")


@pytest.mark.parametrize("impl", IMPLS)
def test_opcheck(impl):
    inputs = (torch.randn(3, 23, 6), PROTECTED, 7, "cosine", 1, 23, impl)
    torch.library.opcheck(torch.ops.rmeeto.closest_pairs.default, inputs, test_utils=("test_schema", "test_faketensor"))


def test_misfits_are_explained():
    features = torch.randn(3, 23, 6)
    for r in (-1, 12):
        with pytest.raises(UnsupportedInput, match="11 candidates"):
            closest_pairs(features, PROTECTED, r)
    with pytest.raises(UnsupportedInput, match="int64"):
        closest_pairs(features, PROTECTED.int(), 3)
    with pytest.raises(UnsupportedInput, match="protected \\(b, p\\)"):
        closest_pairs(features, PROTECTED[:2], 3)
    with pytest.raises(UnsupportedInput, match="nth=1"):
        closest_pairs(features, PROTECTED, 3, nth=0)
    with pytest.raises(UnknownName, match="cosine"):
        closest_pairs(features, PROTECTED, 3, distance="cosin")
