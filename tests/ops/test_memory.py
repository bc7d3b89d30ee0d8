"""Which tensors are plain memory that a kernel may read."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from rmeeto.ops.memory import is_dense, span
from rmeeto.ops.watch import ObjectWatch, TensorWatch, compare, is_watchable


class Subclass(torch.Tensor):
    pass


def resized():
    x = torch.ones(4, 5)
    x.untyped_storage().resize_(0)
    return x


def functional():
    return torch._to_functional_tensor(torch.ones(3))


NOT_DENSE = {
    "subclass": lambda: torch.ones(3).as_subclass(Subclass),
    "meta": lambda: torch.ones(3, device="meta"),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "rows of a sparse one": lambda: torch.eye(3).to_sparse_csr(),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "uninitialised": nn.UninitializedParameter,
    "fake": lambda: FakeTensorMode().from_tensor(torch.ones(3)),
    "functional": functional,
    "to be negated": lambda: torch._neg_view(torch.ones(3)),
    "to be conjugated": lambda: torch.ones(3, dtype=torch.complex64).conj(),
    "given back": resized,
    "no tensor": lambda: [1.0],
}
DENSE = {
    "tensor": lambda: torch.ones(3),
    "parameter": lambda: nn.Parameter(torch.ones(3)),
    "view": lambda: torch.ones(6, 4).t()[1:, ::2],
    "expanded": lambda: torch.ones(1).expand(7),
    "empty": lambda: torch.ones(0, 3),
    "scalar": lambda: torch.ones(()),
}


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning", "ignore:.*quantize_per_tensor.*:UserWarning")
@pytest.mark.parametrize("kind", NOT_DENSE)
def test_what_is_not_plain_memory_is_recognised(kind):
    assert not is_dense(NOT_DENSE[kind]())


@pytest.mark.parametrize("kind", DENSE)
def test_plain_memory_is_recognised_and_can_be_watched(kind):
    x = DENSE[kind]()
    assert is_dense(x)
    assert TensorWatch([x]).is_same()


def test_a_tensor_under_a_transform_has_no_memory_of_its_own():
    def check(x):
        assert not is_dense(x)
        return x

    torch.func.vmap(check)(torch.ones(3, 2))


def test_span_is_from_the_first_to_the_last():
    assert span(torch.ones(6, 4)) == 24
    assert span(torch.ones(6, 4)[:, ::2]) == 23
    assert span(torch.ones(1).expand(7)) == 1
    assert span(torch.ones(0, 7)) == 0


def test_tensors_of_inference_mode_count_no_changes():
    with torch.inference_mode():
        x = torch.ones(3)
    assert is_dense(x)
    assert not is_watchable(x)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.add_(1),
        lambda x: x[1, 1].add_(1),
        lambda x: x.detach().zero_(),
        lambda x: setattr(x, "data", x.data.clone()),
        lambda x: x.data.mul_(2),
        lambda x: x.set_(x.clone()),
        lambda x: x.untyped_storage().resize_(0),
    ],
)
def test_a_changed_tensor_is_not_the_same(change):
    x = torch.ones(5, 7)
    watch = TensorWatch([torch.ones(3), x, torch.ones(2)])
    assert watch.is_same()
    change(x)
    assert watch.is_same() is False


def test_other_types_entries_and_numbers_of_entries_are_not_the_same():
    value, typed = object(), torch.nn.Identity()
    entries, counted = {"a": value, "b": None}, {"c": 1}
    watch = ObjectWatch([typed], [(entries, "a", value), (entries, "b", None)], [(counted, 1)])
    x = torch.ones(40)
    tensors = TensorWatch([*x.split(1)])
    assert compare(watch, tensors) == (True, True)
    typed.__class__ = torch.nn.Flatten
    assert compare(watch, tensors) == (False, True)
    typed.__class__ = torch.nn.Identity
    assert compare(watch, tensors) == (True, True)
    counted["d"] = 2
    assert compare(watch, tensors) == (False, True)
    del counted["d"]
    assert compare(watch, tensors) == (True, True)
    entries["a"] = object()
    assert compare(watch, tensors) == (False, True)
    del entries["a"]
    assert compare(watch, tensors) == (False, True)
    x[39] = 2
    assert compare(watch, tensors) == (False, False)
