"""A whole merge in one call, of the closest or of neighbours: bit for bit its parts one after the other."""

import pytest
import torch

from cpp_kernels import needs_kernels
from rmeeto.errors import UnknownName, UnsupportedInput
from rmeeto.ops import closest_pairs, lay_out, merge_closest, merge_neighbours, merge_rows

pytestmark = needs_kernels


def operands(batch=3, length=23, width=20, features=None, protected=(11,), dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    x = torch.randn(batch, length, width).to(dtype)
    return {
        "features": x if features is None else torch.randn(batch, length, features).to(dtype),
        "x": x,
        "residual": torch.randn(batch, length, width),
        "size": torch.randint(1, 5, (batch, length)).float(),
        "protected": torch.tensor([protected] * batch, dtype=torch.int64).reshape(batch, -1),
    }


def step_by_step(features, x, residual, size, protected, r, **choices):
    source, target, _, _ = closest_pairs(features, protected, r, **choices)
    return moved_by(source, target, x, residual, size, protected)


def moved_by(source, target, x, residual, size, protected):
    kept, place = lay_out(source, target, x.shape[1])
    target = place.gather(1, source)
    size = torch.ones(x.shape[:2]) if size is None else size
    merged = torch.zeros(kept.shape).scatter_add(1, place, size)
    share = size.gather(1, source) / merged.gather(1, target)
    moved = [None if rows is None else merge_rows(rows, kept, source, target, share) for rows in (x, residual)]
    return *moved, merged, place.gather(1, protected), kept, source, target, place


def neighbours_one_by_one(features, protected, r, guard):
    """Sources and targets by loops in float64."""
    chosen = []
    for rows, fixed in zip(torch.nn.functional.normalize(features.double(), dim=-1), protected.tolist(), strict=True):
        patches = [p for p in range(len(rows)) if p not in fixed]
        stay = sorted(patches, key=lambda p: (abs(p - fixed[0]), p))[: 2 * guard] if fixed else []
        found = []
        for k in range(0, len(patches), 2):
            beside = [patches[j] for j in (k - 1, k + 1) if 0 <= j < len(patches) and patches[j] not in stay]
            if beside and patches[k] not in stay:
                scores = [float(rows[patches[k]] @ rows[other]) for other in beside]
                found.append((-max(scores), patches[k], beside[scores.index(max(scores))]))
        chosen.append([pair[1:] for pair in sorted(found)[:r]])
    return torch.tensor(chosen).unbind(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("changes", "r", "choices"),
    [
        ({}, 5, {}),
        ({"batch": 1, "length": 197, "width": 192, "protected": (98,)}, 20, {}),
        ({"features": 7}, 11, {"distance": "l1", "nth": 2}),
        ({"protected": (0, 5, 22)}, 1, {"distance": "l2", "reach": 1}),
        ({"protected": (), "length": 2}, 1, {}),
        ({"batch": 2, "length": 24, "protected": (3,)}, 12, {}),
    ],
)
def test_it_equals_its_parts(instruction_set, dtype, changes, r, choices):
    given = operands(dtype=dtype, **changes)
    with torch.no_grad():
        found, expected = merge_closest(**given, r=r, **choices), step_by_step(**given, r=r, **choices)
    for name, a, b in zip(found._fields, found, expected, strict=True):
        assert a.dtype == b.dtype, name
        assert torch.equal(a, b), name


@pytest.mark.parametrize("absent", ["residual", "size"])
def test_what_is_absent_stays_absent_or_counts_once(absent):
    given = {**operands(), absent: None}
    with torch.no_grad():
        found, expected = merge_closest(**given, r=4), step_by_step(**given, r=4)
    assert (found.residual is None) == (absent == "residual")
    for a, b in zip(found, expected, strict=True):
        assert a is b is None or torch.equal(a, b)


@pytest.mark.parametrize(
    "changed",
    [
        lambda given: {**given, "x": given["x"].double(), "features": given["features"].double()},
        lambda given: {**given, "residual": given["residual"].transpose(0, 1).contiguous().transpose(0, 1)},
        lambda given: {**given, "size": given["size"].double()},
        lambda given: {**given, "x": given["x"].half()},
    ],
    ids=["float64", "strided", "float64 sizes", "float16"],
)
def test_what_one_call_cannot_take_is_left_to_the_others(changed):
    with torch.no_grad():
        assert merge_closest(**changed(operands()), r=4) is None


def test_gradients_are_left_to_the_others():
    assert merge_closest(**operands(), r=4) is None


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"r": 12}, UnsupportedInput),
        ({"r": 0}, UnsupportedInput),
        ({"residual": torch.zeros(3, 23, 4)}, UnsupportedInput),
        ({"features": torch.zeros(3, 22, 20)}, UnsupportedInput),
        ({"protected": torch.zeros(2, 1, dtype=torch.int64)}, UnsupportedInput),
        ({"protected": torch.zeros(3, dtype=torch.int64)}, UnsupportedInput),
        ({"distance": "angle"}, UnknownName),
        ({"protected": torch.full((3, 1), 23)}, IndexError),
    ],
)
def test_misfits_are_refused(changed, error):
    with torch.no_grad(), pytest.raises(error):
        merge_closest(**{**operands(), "r": 4, **changed})


NEIGHBOURS = [
    ({}, 5, 0),
    ({"batch": 1, "length": 197, "width": 192, "protected": (98,)}, 20, 2),
    ({"batch": 1, "length": 24, "features": 7}, 9, 2),
    ({"length": 24, "protected": (0,)}, 8, 3),
    ({"length": 25, "protected": (24,)}, 8, 3),
    ({"protected": (5, 0, 22)}, 4, 4),
    ({"protected": ()}, 11, 2),
    ({"protected": (), "length": 2}, 1, 0),
    ({"batch": 1, "length": 1200, "width": 33, "protected": (700,)}, 500, 2),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("changes", "r", "guard"), NEIGHBOURS)
def test_neighbours_equal_loops_in_float64(instruction_set, dtype, changes, r, guard):
    given = operands(dtype=dtype, **changes)
    moving = {name: given[name] for name in ("x", "residual", "size", "protected")}
    with torch.no_grad():
        found = merge_neighbours(**given, r=r, guard=guard)
        expected = moved_by(*neighbours_one_by_one(given["features"], given["protected"], r, guard), **moving)
    for name, a, b in zip(found._fields, found, expected, strict=True):
        assert a.dtype == b.dtype, name
        assert torch.equal(a, b), name


def test_without_a_guard_neighbours_are_those_within_reach(instruction_set):
    given = operands()
    with torch.no_grad():
        found, expected = merge_neighbours(**given, r=9), merge_closest(**given, r=9, reach=1)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_equal_neighbours_join_the_row_before_and_leave_by_position(instruction_set):
    given = operands(protected=(6,), length=14)
    given["features"] = torch.ones_like(given["features"])
    with torch.no_grad():
        found = merge_neighbours(**given, r=4, guard=1)
    assert found.source[0].tolist() == [0, 2, 4, 9]  # 7 and 5 are beside the protected row
    assert found.kept.gather(1, found.target)[0].tolist() == [1, 1, 3, 8]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_division_of_the_candidates_gives_the_same(threads):
    given = operands(batch=2, length=1500)
    before = torch.get_num_threads()
    with torch.no_grad():
        expected = merge_neighbours(**given, r=600, guard=2)
        torch.set_num_threads(threads)
        try:
            found = merge_neighbours(**given, r=600, guard=2)
        finally:
            torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_rows_without_a_direction_leave_positions_that_exist():
    given = operands()
    given["features"][:, 5:9] = torch.nan
    given["features"][:, 15] = 0
    with torch.no_grad():
        found = merge_neighbours(**given, r=11, guard=2)
    assert (found.source.sort(dim=1).values.diff(dim=1) > 0).all()
    assert ((found.target >= 0) & (found.target < found.kept.shape[1])).all()


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"r": 12}, UnsupportedInput),
        ({"r": 0}, UnsupportedInput),
        ({"guard": -1}, UnsupportedInput),
        ({"protected": torch.full((3, 1), 23)}, IndexError),
    ],
)
def test_misfits_of_neighbours_are_refused(changed, error):
    with torch.no_grad(), pytest.raises(error):
        merge_neighbours(**{**operands(), "r": 4, **changed})


def test_strided_neighbours_are_left_to_the_others():
    given = operands()
    given["x"] = given["x"].transpose(0, 1).contiguous().transpose(0, 1)
    with torch.no_grad():
        assert merge_neighbours(**given, r=4) is None
