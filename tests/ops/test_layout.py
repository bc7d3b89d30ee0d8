import pytest
import torch

from cpp_kernels import IMPLS, needs_kernels
from rmeeto.errors import UnsupportedInput
from rmeeto.ops import lay_out
from rmeeto.ops.impl import cpp


def pairs(batch: int, length: int, removed: int):
    order = torch.stack([torch.randperm(length) for _ in range(batch)])
    stay = order[:, removed:]
    chosen = torch.randint(0, stay.shape[1], (batch, removed))
    return order[:, :removed], stay.gather(1, chosen)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    ("batch", "length", "removed"), [(1, 1, 0), (2, 2, 1), (3, 197, 11), (2, 40, 39), (90, 200, 99)]
)
@pytest.mark.parametrize("lost", [False, True])
def test_equals_closing_gaps_one_by_one(impl, batch, length, removed, lost):
    source, target = pairs(batch, length, removed)
    kept, place = lay_out(source, None if lost else target, length, impl=impl)
    assert kept.is_contiguous()
    assert place.is_contiguous()
    for i in range(batch):
        stay = [row for row in range(length) if row not in source[i].tolist()]
        assert kept[i].tolist() == stay
        taken_in = {} if lost else dict(zip(source[i].tolist(), target[i].tolist(), strict=True))
        expected = [
            stay.index(taken_in.get(row, row)) if taken_in.get(row, row) in stay else -1 for row in range(length)
        ]
        assert place[i].tolist() == expected


@pytest.mark.parametrize("impl", IMPLS)
def test_reads_slices_where_they_lie(impl):
    source, target = pairs(3, 30, 12)
    wide = torch.cat([source, target], dim=1)
    for ours, plain in zip(
        lay_out(wide[:, :12], wide[:, 12:], 30, impl=impl), lay_out(source, target, 30, impl=impl), strict=True
    ):
        assert torch.equal(ours, plain)


@needs_kernels
@pytest.mark.parametrize(("source", "target"), [([[4]], [[0]]), ([[-1]], [[0]]), ([[0]], [[4]]), ([[1, 1]], [[0, 0]])])
def test_positions_that_cannot_be_are_named(source, target):
    with pytest.raises(IndexError):
        cpp.lay_out(torch.tensor(source), torch.tensor(target), 4)


def test_one_graph_under_compile():
    source, target = pairs(2, 9, 3)
    compiled = torch.compile(lay_out, fullgraph=True, backend="aot_eager")
    for ours, plain in zip(compiled(source, target, 9), lay_out(source, target, 9), strict=True):
        assert torch.equal(ours, plain)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (torch.zeros(3, dtype=torch.int64), None),
        (torch.zeros(1, 3), None),
        (torch.zeros(1, 5, dtype=torch.int64), None),
        (torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64)),
    ],
    ids=["rank", "dtype", "too many", "target"],
)
def test_refuses_what_does_not_fit(source, target):
    with pytest.raises(UnsupportedInput):
        lay_out(source, target, 4)
