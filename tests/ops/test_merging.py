"""A whole merge in one call: the same, bit for bit, as pairs, layout and moves one after the other."""

import pytest
import torch

from cpp_kernels import needs_kernels
from rmeeto.errors import UnknownName, UnsupportedInput
from rmeeto.ops import closest_pairs, lay_out, merge_closest, merge_rows

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
    kept, place = lay_out(source, target, x.shape[1])
    target = place.gather(1, source)
    size = torch.ones(x.shape[:2]) if size is None else size
    merged = torch.zeros(kept.shape).scatter_add(1, place, size)
    share = size.gather(1, source) / merged.gather(1, target)
    moved = [None if rows is None else merge_rows(rows, kept, source, target, share) for rows in (x, residual)]
    return *moved, merged, place.gather(1, protected), kept, source, target, place


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
