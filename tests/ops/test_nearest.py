from itertools import product

import pytest
import torch

from cpp_kernels import IMPLS, needs_kernels
from rmeeto.errors import UnknownName, UnsupportedInput
from rmeeto.ops import find_nearest, select
from rmeeto.ops.impl import cpp
from rmeeto.ops.impl.reference import nearest


def similarity(a, b, distance: str) -> float:
    if distance == "cosine":
        return (a @ b / (a.norm() * b.norm())).item()
    return -(a - b).norm(p=1 if distance == "l1" else 2).item()


def search(a, b, distance: str, nth: int, reach: int | None = None, ranges=None):
    """Every row against every column it sees, one by one, in float64."""
    best, index = torch.empty(a.shape[:2], dtype=torch.float64), torch.empty(a.shape[:2], dtype=torch.int64)
    for image, i in product(range(a.shape[0]), range(a.shape[1])):
        low, high = (0, b.shape[1]) if reach is None else (i - reach, i + reach)
        if ranges is not None:
            low, high = (bound[image, i].item() for bound in ranges)
        seen = [j for j in range(b.shape[1]) if low <= j < high]
        if not seen:
            best[image, i], index[image, i] = -torch.inf, min(max(0, low), b.shape[1] - 1)
            continue
        ranked = sorted((-similarity(a[image, i].double(), b[image, j].double(), distance), j) for j in seen)
        value, index[image, i] = ranked[min(nth, len(seen)) - 1]
        best[image, i] = -value
    return best, index


def assert_same(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found[0].double(), expected[0].double(), rtol=tolerance, atol=tolerance)
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    ("distance", "nth", "reach"), list(product(["cosine", "l1", "l2"], [1, 3, 50], [None, 1, 2, 9]))
)
def test_equals_a_search_one_by_one(impl, distance, nth, reach):
    a, b = torch.randn(2, 21, 19), torch.randn(2, 20, 19)
    found = find_nearest(a, b, distance=distance, nth=nth, reach=reach, impl=impl)
    assert_same(found, search(a, b, distance, nth, reach))


def bands(rows: int, columns: int):
    """Ranges such as frames give: neighbours see about the same, images differ, some rows see nothing."""
    low = torch.randint(0, columns, (2, rows)).sort(1).values
    return low, low + torch.randint(0, 1 + columns // 3, (2, rows))


def anywhere(rows: int, columns: int):
    """Ranges in no order, empty and reversed ones and ones beyond either end among them."""
    return torch.randint(-9, columns + 9, (2, 2, rows)).unbind()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    ("distance", "nth", "ranges", "shape"),
    list(product(["cosine", "l1", "l2"], [1, 3, 50], [bands, anywhere], [(1, 1), (21, 20), (45, 131), (40, 3)])),
)
def test_ranges_equal_a_search_one_by_one(impl, distance, nth, ranges, shape):
    a, b = (torch.randn(2, length, 19) for length in shape)
    seen = ranges(*shape)
    found = find_nearest(a, b, distance=distance, nth=nth, seen=seen, impl=impl)
    assert_same(found, search(a, b, distance, nth, ranges=seen))


@pytest.mark.parametrize("distance", ["cosine", "l1", "l2"])
@pytest.mark.parametrize(("rows", "columns", "features"), [(7, 3, 17), (131, 260, 192), (785, 784, 192)])
def test_kernels_agree_with_float64_within_ranges(instruction_set, rows, columns, features, distance):
    a, b, seen = torch.randn(2, rows, features), torch.randn(2, columns, features), bands(rows, columns)
    found = find_nearest(a, b, distance=distance, seen=seen, impl="cpp")
    truth = find_nearest(a.double(), b.double(), distance=distance, seen=seen, impl="reference")
    torch.testing.assert_close(found[0].double(), truth[0], rtol=1e-5, atol=1e-5)
    assert (found[1] == truth[1]).float().mean() > 0.98  # another column only for a near tie


@pytest.mark.parametrize("impl", IMPLS)
def test_ranges_may_be_all_empty_or_everything(impl):
    a, b = torch.randn(2, 45, 6), torch.randn(2, 44, 6)
    full, place = torch.full((2, 45), 44), torch.arange(45).expand(2, -1)  # expanded: rows of both images are one
    assert_same(find_nearest(a, b, seen=(full * 0, full), impl=impl), find_nearest(a, b, impl=impl), 0)
    assert_same(find_nearest(a, b, seen=(place - 2, place + 2), impl=impl), find_nearest(a, b, reach=2, impl=impl), 0)
    score, index = find_nearest(a, b, seen=(place, place), impl=impl)
    assert (score == -torch.inf).all()
    assert torch.equal(index, place.clamp(max=43))


@pytest.mark.parametrize("impl", IMPLS)
def test_no_images_have_no_neighbours(impl):
    rows, columns, none = torch.empty(0, 5, 3), torch.empty(0, 4, 3), torch.empty(0, 5, dtype=torch.int64)
    for seen in (None, (none, none)):
        best, index = find_nearest(rows, columns, seen=seen, impl=impl)
        assert best.shape == index.shape == (0, 5)


@pytest.mark.parametrize("impl", IMPLS)
def test_no_rows_have_no_neighbours(impl):
    best, index = find_nearest(torch.empty(2, 0, 3), torch.empty(2, 4, 3), impl=impl)
    assert best.shape == index.shape == (2, 0)


@pytest.mark.parametrize("distance", ["cosine", "l1", "l2"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 3), (4, 7), (99, 98), (98, 99), (131, 260), (785, 784)])
@pytest.mark.parametrize("features", [1, 17, 192])
def test_kernels_agree_with_float64(instruction_set, rows, columns, features, distance):
    a, b = torch.randn(2, rows, features), torch.randn(2, columns, features)
    if features == 1 and distance == "cosine":
        pytest.skip("two directions only: ties everywhere")
    found = find_nearest(a, b, distance=distance, impl="cpp")
    truth = find_nearest(a.double(), b.double(), distance=distance, impl="reference")
    torch.testing.assert_close(found[0].double(), truth[0], rtol=1e-5, atol=1e-5)
    chosen = torch.stack([similarity_of_chosen(a, b, index, distance) for index in (found[1], truth[1])])
    torch.testing.assert_close(chosen[0], chosen[1], rtol=1e-5, atol=1e-5)  # another column only for a near tie
    assert (found[1] == truth[1]).float().mean() > 0.98


def similarity_of_chosen(a, b, index, distance):
    a, b = a.double(), b.double().gather(1, index[..., None].expand(-1, -1, b.shape[-1]))
    if distance == "cosine":
        return torch.cosine_similarity(a, b, dim=-1)
    return -(a - b).norm(p=1 if distance == "l1" else 2, dim=-1)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("distance", ["cosine", "l1", "l2"])
def test_equal_columns_rank_by_index(impl, distance):
    a = torch.randn(1, 5, 8)
    b = a[:, :1].repeat(1, 70, 1)
    for nth in (1, 2, 40, 70, 71):
        index = find_nearest(a, b, distance=distance, nth=nth, impl=impl)[1]
        assert (index == min(nth, 70) - 1).all()


@pytest.mark.parametrize("impl", IMPLS)
def test_equal_vectors_have_no_distance(impl):
    """Products would leave a thousandth of the vectors' length."""
    b = torch.randn(1, 60, 64) + 100
    for distance in ("l1", "l2"):
        score, index = find_nearest(b.clone(), b, distance=distance, impl=impl)
        assert (score == 0).all()
        assert torch.equal(index[0], torch.arange(60))


@pytest.mark.parametrize("impl", IMPLS)
def test_many_rows_go_in_pieces(impl, monkeypatch):
    monkeypatch.setattr(nearest, "CHUNK_BYTES", 4096)
    monkeypatch.setattr(nearest, "NARROW", 3)
    a, b = torch.randn(2, 45, 6), torch.randn(2, 44, 6)
    for reach, nth in product((None, 2, 30), (1, 3)):
        found = find_nearest(a, b, reach=reach, nth=nth, impl=impl)
        assert_same(found, search(a, b, "cosine", nth, reach))
    for ranges in (bands(45, 44), anywhere(45, 44)):
        assert_same(find_nearest(a, b, seen=ranges, impl=impl), search(a, b, "cosine", 1, ranges=ranges))


@pytest.mark.parametrize("impl", IMPLS)
def test_slices_and_transposes_are_read_where_they_lie(impl):
    both = torch.randn(2, 40, 24)
    a, b = both[:, 0::2], both[:, 1::2]
    assert_same(find_nearest(a, b, impl=impl), find_nearest(a.contiguous(), b.contiguous(), impl=impl))
    turned = torch.randn(2, 24, 40).mT
    assert_same(find_nearest(turned, b, impl=impl), find_nearest(turned.contiguous(), b, impl=impl))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_storage(instruction_set, dtype):
    a, b = torch.randn(2, 50, 33).to(dtype), torch.randn(2, 49, 33).to(dtype)
    found = find_nearest(a, b, impl="cpp")
    assert found[0].dtype == torch.float32
    assert_same(found, find_nearest(a.double(), b.double()))


@pytest.mark.parametrize("impl", IMPLS)
def test_zero_vectors_and_nan_leave_an_index_that_exists(impl):
    a, b = torch.randn(1, 6, 4), torch.randn(1, 6, 4)
    a[0, 1], b[0, 2], a[0, 3], b[0, 4] = 0, 0, torch.nan, torch.nan
    all_but_two = (torch.tensor([[0, 0, 0, 0, 6, 9]]), torch.full((1, 6), 6))
    for options in ({}, {"reach": 1}, {"seen": all_but_two}):
        index = find_nearest(a, b, **options, impl=impl)[1]
        assert ((index >= 0) & (index < 6)).all()


@needs_kernels
def test_results_do_not_depend_on_threads():
    a, b = torch.randn(3, 130, 40), torch.randn(3, 129, 40)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(find_nearest(a, b, impl="cpp"))
    finally:
        torch.set_num_threads(before)
    assert_same(*results, 0)


@pytest.mark.parametrize("impl", IMPLS)
def test_opcheck(impl):
    a, b = torch.randn(2, 9, 6), torch.randn(2, 8, 6)
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.rmeeto.find_nearest.default, (a, b, "cosine", 1, 9, impl), test_utils=tests)
    seen = (a, b, *bands(9, 8), "cosine", 1, impl)
    torch.library.opcheck(torch.ops.rmeeto.find_nearest_seen.default, seen, test_utils=tests)


def test_export_keeps_the_operation_whole():
    class Nearest(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return find_nearest(a, b)[1]

    inputs = (torch.randn(2, 9, 6), torch.randn(2, 8, 6))
    program = torch.export.export(Nearest(), inputs)
    assert "rmeeto.find_nearest" in str(program.graph)
    assert torch.equal(program.module()(*inputs), Nearest()(*inputs))


def test_no_gradient_flows_through_a_decision():
    a = torch.randn(2, 9, 6, requires_grad=True)
    assert not find_nearest(a, a)[0].requires_grad


@pytest.mark.parametrize("impl", ["reference", "cpp"])
def test_memory_grows_with_the_rows_not_with_their_product(impl):
    """8,000 × 8,000 similarities would be 256 MB; the process may grow by a fraction of that."""
    pytest.importorskip("resource")
    if impl == "cpp" and cpp.absence():
        pytest.skip(f"no C++ kernels: {cpp.absence()}")
    import subprocess
    import sys

    program = f"""
import resource, torch
from rmeeto.ops import find_nearest
a = torch.randn(1, 8000, 4)
find_nearest(a[:, :100], a[:, :100], impl="{impl}")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
find_nearest(a, a, impl="{impl}")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    grown_mib = float(done.stdout) / (1024 if sys.platform == "darwin" else 1)
    assert grown_mib < 60


@pytest.mark.parametrize(
    ("shapes", "options", "hint"),
    [
        (((2, 5, 4), (2, 5, 3)), {}, r"b \(b, m, f\)"),
        (((2, 5, 4), (1, 5, 4)), {}, r"b \(b, m, f\)"),
        (((2, 5, 4), (2, 0, 4)), {}, "no rows"),
        (((2, 5, 4), (2, 3, 4)), {"reach": 1}, "sees no row"),
        (((2, 5, 4), (2, 5, 4)), {"reach": 0}, "sees no row"),
        (((2, 5, 4), (2, 5, 4)), {"nth": 0}, "nth=1"),
        (((2, 5, 4), (2, 5, 4)), {"reach": 2, "seen": (torch.zeros(2, 5).long(),) * 2}, "two ways"),
        (((2, 5, 4), (2, 5, 4)), {"seen": (torch.zeros(2, 4).long(),) * 2}, "int64"),
        (((2, 5, 4), (2, 5, 4)), {"seen": (torch.zeros(2, 5),) * 2}, "int64"),
    ],
)
def test_misfits_are_explained(shapes, options, hint):
    with pytest.raises(UnsupportedInput, match=hint):
        find_nearest(*(torch.randn(shape) for shape in shapes), **options)


def test_mixed_dtypes_and_unknown_distances_are_refused():
    a = torch.randn(2, 5, 4)
    with pytest.raises(UnsupportedInput, match="one dtype"):
        find_nearest(a, a.double())
    with pytest.raises(UnknownName, match="cosine"):
        find_nearest(a, a, distance="cosin")


@needs_kernels
def test_kernels_without_this_operation_leave_it_to_pytorch_silently(monkeypatch):
    monkeypatch.delattr(cpp, "find_nearest")
    monkeypatch.setattr(select, "_warned", False)
    a = torch.randn(2, 5, 4)
    assert_same(find_nearest(a, a), find_nearest(a, a, impl="reference"), 0)  # a warning would be an error
    with pytest.raises(UnsupportedInput, match="cpp has no kernel for it"):
        find_nearest(a, a, impl="cpp")
