"""The Triton kernels that find the nearest rows and pair them, against the reference in float64."""

from itertools import product

import pytest
import torch

from rmeeto.ops import closest_pairs, find_nearest
from rmeeto.ops.impl import reference
from triton_kernels import call_on_device

needs_device = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

PROTECTED = torch.tensor([[0, 3], [11, 0], [22, 21]])


def assert_same(found, expected, tolerance=1e-5):
    assert found[0].dtype == torch.float32
    assert found[1].dtype == torch.int64
    torch.testing.assert_close(found[0].double(), expected[0].double(), rtol=tolerance, atol=tolerance)
    assert torch.equal(found[1], expected[1])


def check_nearest(kernel, a, b, distance="cosine", nth=1, reach=1000):
    found = kernel("find_nearest", a, b, distance, nth, reach)
    assert_same(found, reference.find_nearest(a.double(), b.double(), distance, nth, reach))


@pytest.mark.parametrize(("distance", "nth", "reach"), list(product(["cosine", "l1", "l2"], [1, 3, 50], [50, 1, 5])))
def test_nearest_equals_the_reference(kernel, distance, nth, reach):
    check_nearest(kernel, torch.randn(1, 13, 19), torch.randn(1, 12, 19), distance, nth, reach)


@pytest.mark.parametrize("distance", ["cosine", "l1", "l2"])
@pytest.mark.parametrize(("rows", "columns", "features"), [(1, 1, 3), (7, 3, 33), (4, 70, 16), (99, 130, 65)])
def test_nearest_of_ragged_sizes(kernel, rows, columns, features, distance):
    check_nearest(kernel, torch.randn(2, rows, features), torch.randn(2, columns, features), distance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("distance", ["cosine", "l1", "l2"])
def test_nearest_of_half_precision_storage(kernel, dtype, distance):
    check_nearest(kernel, torch.randn(2, 35, 40).to(dtype), torch.randn(2, 70, 40).to(dtype), distance)


@pytest.mark.parametrize("distance", ["cosine", "l1", "l2"])
def test_equal_columns_rank_by_index(kernel, distance):
    """Also across the border between two tiles."""
    a, b = torch.randn(1, 1, 8), torch.randn(1, 70, 8)
    b[:, 62:] = a
    for nth in (1, 2, 3, 4):
        assert kernel("find_nearest", a, b, distance, nth, 1000)[1].item() == 61 + nth


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_equal_vectors_have_no_distance(kernel, distance):
    """Products would leave a thousandth of the vectors' length."""
    b = torch.randn(1, 60, 64) + 100
    score, index = kernel("find_nearest", b, b, distance, 1, 1000)
    assert (score == 0).all()
    assert torch.equal(index[0], torch.arange(60))


def test_nearest_reads_slices_and_transposes(kernel):
    both = torch.randn(2, 40, 24)
    check_nearest(kernel, both[:, 0::2, 3:20], both[:, 1::2, 4:21])
    check_nearest(kernel, torch.randn(2, 24, 40).mT, both[:, 1::2])
    check_nearest(kernel, both[:1, :9].expand(2, -1, -1), both[:, 1::2])


def test_lengths_do_not_matter_to_the_cosine(kernel):
    scale = torch.tensor([1e-9, 1e-3, 1.0, 1e3, 1e9])
    check_nearest(kernel, torch.randn(1, 5, 9) * scale[:, None], torch.randn(1, 5, 9) * scale.flip(0)[:, None])


@pytest.mark.parametrize("reach", [1000, 1])
@pytest.mark.parametrize("nth", [1, 2])
def test_zero_vectors_and_nan_leave_an_index_that_exists(kernel, reach, nth):
    a, b = torch.randn(1, 6, 4), torch.randn(1, 6, 4)
    a[0, 1], b[0, 2], a[0, 3], b[0, 4] = 0, 0, torch.nan, torch.nan
    index = kernel("find_nearest", a, b, "cosine", nth, reach)[1]
    row = torch.arange(6)
    assert ((index >= (row - reach).clamp(min=0)) & (index < (row + reach).clamp(max=6))).all()


@pytest.mark.parametrize(
    ("distance", "nth", "reach", "length", "r"),
    list(product(["cosine", "l1"], [1, 4], [1000, 1], [23, 24], [0, 7, 11]))[::2],
)
def test_pairs_equal_the_reference(kernel, distance, nth, reach, length, r):
    features, r = torch.randn(3, length, 19), min(r, (length - 2) - (length - 2) // 2)
    found = kernel("closest_pairs", features, PROTECTED, r, distance, nth, reach)
    expected = reference.closest_pairs(features.double(), PROTECTED, r, distance, nth, reach)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.is_contiguous()
        assert torch.equal(ours, theirs)


def test_equal_rows_rank_by_position(kernel):
    _, target, ranked, _ = kernel("closest_pairs", torch.ones(1, 331, 4), torch.tensor([[65]]), 40, "cosine", 1, 1000)
    assert ranked[0].tolist() == [i for i in range(331) if i != 65][0::2]
    assert (target == 1).all()


@pytest.mark.parametrize("protected", [torch.zeros(2, 0, dtype=torch.int64), torch.tensor([[9, 1, 4], [0, 1, 2]])])
def test_any_number_of_rows_may_be_protected(kernel, protected):
    source, target, ranked, targets = kernel("closest_pairs", torch.randn(2, 10, 5), protected, 2, "cosine", 1, 1000)
    for i in range(2):
        patches = [p for p in range(10) if p not in protected[i]]
        assert sorted(ranked[i].tolist()) == patches[0::2]
        assert targets[i].tolist() == patches[1::2]
        assert set(target[i].tolist()) <= set(patches[1::2])
        assert torch.equal(source[i], ranked[i, :2])


def test_nan_leaves_positions_that_exist(kernel):
    features = torch.randn(3, 23, 6)
    features[:, 5:9] = torch.nan
    _, target, ranked, targets = kernel("closest_pairs", features, PROTECTED, 7, "cosine", 1, 1000)
    assert (ranked.sort(dim=1).values.diff(dim=1) > 0).all()  # each candidate once
    assert all(set(t.tolist()) <= set(all_.tolist()) for t, all_ in zip(target, targets, strict=True))


def test_no_images_no_work(kernel):
    assert kernel("find_nearest", torch.randn(0, 5, 4), torch.randn(0, 5, 4), "cosine", 1, 9)[1].shape == (0, 5)
    found = kernel("closest_pairs", torch.randn(0, 9, 4), PROTECTED[:0], 2, "cosine", 1, 9)
    assert [x.shape[1] for x in found] == [2, 2, 4, 3]


def test_features_may_be_half_and_positions_int64(interpreter):
    tensors = {"features": torch.zeros(1, 9, 4, dtype=torch.bfloat16), "protected": torch.zeros(1, 1).long()}
    assert interpreter("unsupported_reasons", "closest_pairs", tensors) == []


@pytest.mark.gpu
@needs_device
@pytest.mark.parametrize("distance", ["cosine", "l1", "l2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "columns"), [(98, 98), (785, 784)])
def test_device_nearest_through_the_public_function(rows, columns, dtype, distance):
    a, b = torch.randn(2, rows, 192, device="cuda").to(dtype), torch.randn(2, columns, 192, device="cuda").to(dtype)
    found = find_nearest(a, b, distance=distance)
    truth = find_nearest(a.double(), b.double(), distance=distance, impl="reference")
    torch.testing.assert_close(found[0].double(), truth[0], rtol=1e-5, atol=1e-5)
    assert (found[1] == truth[1]).float().mean() > 0.98  # another column only for a near tie


@pytest.mark.gpu
@needs_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_device_pairs_through_the_public_function(dtype):
    features, protected = torch.randn(4, 197, 64, device="cuda").to(dtype), torch.full((4, 1), 98, device="cuda")
    found, again = (closest_pairs(features, protected, 11, impl="triton") for _ in range(2))
    truth = closest_pairs(features.double(), protected, 11, impl="reference")
    assert all(torch.equal(x, y) for x, y in zip(found, again, strict=True))
    assert (found.source == truth.source).float().mean() > 0.9
    assert torch.equal(found.targets, truth.targets)


@pytest.mark.gpu
@needs_device
def test_device_pairs_do_not_wait_for_the_device():
    features, protected = torch.randn(4, 197, 64, device="cuda"), torch.full((4, 1), 98, device="cuda")
    expected = call_on_device("closest_pairs", features, protected, 11, "cosine", 1, 1000)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = closest_pairs(features, protected, 11, impl="triton")
    graph.replay()
    assert all(torch.equal(x.cpu(), y) for x, y in zip(captured, expected, strict=True))
